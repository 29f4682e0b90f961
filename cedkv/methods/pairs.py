"""Pair logs: what trainings of chunks found, episode by episode, kept for an extractor to learn from.

A folder with a ledger, `index.jsonl`, a line per pair that says of which episode, model and settings it is, and
`shards/`, a safetensors file per pair with its numbers. Shards are written before their line and never again, so
several processes may add to one log, and one that dies leaves at worst a shard that no line names.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cedkv.errors import CedKVError
from cedkv.files import dump_json, whole_file
from cedkv.ledger import Ledger, Row, row_key
from cedkv.methods.base import Extraction
from cedkv.state import KVPrefix
from cedkv.state.container import write_container

FORMAT = "cedkv-pairs-1"
_NUMBERS = ("log_bias", "value_gain", "weights")
# What a row on the simplex may miss of 1.
_ROUNDING = 1e-4


class PairError(CedKVError):
    """A pair log, or a pair in it, cannot be read."""


def is_pair(extraction: Extraction, prefix: KVPrefix) -> bool:
    """Whether a finished training left log-biases and gains to keep."""
    mixture = prefix.mixture
    trained = bool(extraction.training) and extraction.complete
    return trained and mixture is not None and mixture.log_bias is not None and mixture.value_gain is not None


@dataclass(frozen=True)
class PairLog:
    """The pairs of a folder."""

    folder: Path

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / "index.jsonl")

    def put(self, prefix: KVPrefix) -> str:
        """Add what a training found; returns its key. The same training once more takes the place of the first.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        mixture = prefix.mixture
        assert mixture is not None, "a pair has a mixture"
        content = save({name: getattr(mixture, name).cpu().contiguous() for name in _NUMBERS})
        digest = hashlib.sha256(content).hexdigest()
        told = {name: prefix.meta[name] for name in ("episode", "method", "settings")}
        key = row_key(**told, model=prefix.fingerprint, slots=prefix.slots)
        shard = f"shards/{key[:16]}-{digest[:8]}.safetensors"
        with whole_file(self.folder / shard) as unfinished:
            unfinished.write_bytes(content)
        row = {"format": FORMAT, "shard": shard, "sha256": digest, "fingerprint": prefix.fingerprint,
               "slots": prefix.slots, **prefix.meta, "tokens": asdict(mixture.tokens)}  # fmt: skip
        self.ledger.put(key, row)
        return key

    def rows(self) -> dict[str, Row]:
        """The pairs by their keys, as the index tells of them.

        Raises
        ------
        OutputError
            The index cannot be read.
        PairError
            There is none, or it is of another version.
        """
        if not self.ledger.path.exists():
            raise PairError(f"pair log {str(self.folder)!r} has no index.jsonl; name a folder that trainings wrote to")
        rows = self.ledger.rows()
        for key, row in rows.items():
            if row.get("format") != FORMAT:
                raise PairError(
                    f"pair log {str(self.folder)!r}: pair {key[:12]} is none of {FORMAT!r}; remove its line"
                )
        return rows

    def read(self, row: Row) -> dict[str, Tensor]:
        """The numbers of a pair: `log_bias`, `value_gain` and `weights`, as a state's mixture has them.

        Raises
        ------
        PairError
            The shard is missing, or differs from what was written.
        """
        path = self.folder / row["shard"]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise PairError(
                f"shard {str(path)!r} cannot be read: {error.strerror}; train that episode again"
            ) from error
        try:
            tensors = load(content)
        except SafetensorError as error:
            raise PairError(f"shard {str(path)!r} is damaged: {error}; train that episode again") from error
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise PairError(f"shard {str(path)!r} is damaged: its checksum does not match; train that episode again")
        return tensors

    def problems(self) -> Iterator[str]:
        """What is wrong with the log: shards that are damaged or missing, numbers that cannot be, shards of no pair."""
        rows = self.rows()
        for row in rows.values():
            try:
                yield from (f"{row['shard']}: {said}" for said in _impossible(self.read(row), row))
            except PairError as error:
                yield str(error)
        known = {row["shard"] for row in rows.values()}
        for path in sorted((self.folder / "shards").glob("*.safetensors")):
            if f"shards/{path.name}" not in known:
                yield f"shards/{path.name}: no line of the index names it; it can be removed"

    def export(self, out: Path) -> int:
        """Write all pairs into one safetensors file, the index in its metadata; returns how many there are.

        Raises
        ------
        PairError
            A shard is missing or damaged.
        OutputError
            The file cannot be written.
        """
        rows = self.rows()
        numbers = {f"{key}/{name}": tensor for key, row in rows.items() for name, tensor in self.read(row).items()}
        write_container(out, numbers, {"format": FORMAT, "index": dump_json(rows)})
        return len(rows)


def _impossible(numbers: dict[str, Tensor], row: dict[str, Any]) -> Iterator[str]:
    if set(numbers) != set(_NUMBERS):
        yield f"it holds {', '.join(sorted(numbers))}, not {', '.join(_NUMBERS)}"
        return
    if not all(tensor.isfinite().all() for tensor in numbers.values()):
        yield "a number is not finite"
    weights = numbers["weights"]
    if weights.shape[2:] != (row["slots"], len(row["tokens"]["ids"])):
        yield f"weights of {weights.shape[2]} slots and {weights.shape[3]} tokens are not the index's"
    elif (weights < 0).any() or ((weights.sum(-1) - 1).abs() > _ROUNDING).any():
        yield "weights that are no mixture"
