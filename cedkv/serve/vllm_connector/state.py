"""Reading a state file: every byte verified, and no more than a prompt's keys and values made of it.

The format is specified in the project's docs/state-format.md. This reader takes version 4 in floating point; integers
are exported as floating point first.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .errors import Refused

FORMAT, FORMAT_VERSION = "cedkv-state", 4
_MAX_HEADER_BYTES = 16_000_000
_DTYPES = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I64": torch.int64,
    "I32": torch.int32,
    "BOOL": torch.bool,
}
_PRECISIONS = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}


@dataclass(frozen=True)
class State:
    """The slots that are switched on, as plain keys and values.

    Attributes
    ----------
    keys, values : `[layers, kv_heads, slots, head_dim]`, on the CPU; keys before rotary embedding.
    positions : `[slots]`, where each slot stands relative to the query's first token; all below zero.
    fingerprint : of the model it was made with.
    seal : SHA-256 over the file's header, which holds the checksums of all else: what tells two states apart.
    """

    keys: torch.Tensor
    values: torch.Tensor
    positions: torch.Tensor
    fingerprint: str
    seal: str

    @property
    def slots(self) -> int:
        return self.keys.shape[2]

    @property
    def salt(self) -> str:
        """What keeps this state's blocks apart from all others in vLLM's prefix cache."""
        return salt_of(self.seal)


SALT_PREFIX = "cedkv-"


def salt_of(seal: str) -> str:
    """The `cache_salt` of a state with this seal."""
    return SALT_PREFIX + seal


def read_state(path: Path) -> State:
    """Read and verify a state file.

    Raises
    ------
    Refused
        It is missing, damaged, of another version, in integers, or has nothing that a plain prompt could carry.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refused(f"state file {path.name!r} cannot be read: {error.strerror}") from error
    try:
        return _state(path.name, data, *_verified(path.name, data))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, RecursionError) as error:
        # Whoever seals a file again can write anything into it.
        raise _damaged(path.name, "its header cannot be read") from error


def _verified(name: str, data: bytes) -> tuple[dict[str, Any], dict[str, Any], str, int]:
    """The tensors' entries, the metadata block, the seal and where the tensors start; every byte has been checked."""
    length = int.from_bytes(data[:8], "little")
    start = 8 + length
    if not 2 <= length <= _MAX_HEADER_BYTES or start > len(data):
        raise _damaged(name, "its header is not whole")
    entries = json.loads(data[8:start])
    metadata = entries.pop("__metadata__")
    if metadata["format"] != FORMAT:
        raise Refused(f"state file {name!r} is no state file")
    header, seal = json.loads(metadata["header"]), metadata["sha256"]
    if header["format_version"] != FORMAT_VERSION:
        raise Refused(f"state file {name!r} has format version {header['format_version']!r}, not {FORMAT_VERSION}")
    blank = data[8:start].replace(seal.encode(), b"0" * 64, 1)
    if len(seal) != 64 or hashlib.sha256(blank).hexdigest() != seal:
        raise _damaged(name, "its seal does not match")
    end = start
    for tensor, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = (start + offset for offset in entry["data_offsets"])
        if first != end or not first <= last <= len(data):
            raise _damaged(name, f"{tensor!r} is not whole")
        if hashlib.sha256(data[first:last]).hexdigest() != header["checksums"][tensor]:
            raise _damaged(name, f"the checksum of {tensor!r} does not match")
        end = last
    if end != len(data):
        raise _damaged(name, f"it has {len(data)} bytes, its header says {end}")
    return entries, header, seal, start


def _tensor(
    name: str, data: bytes, start: int, entry: dict[str, Any] | None, dtype: str, shape: tuple[int, ...]
) -> torch.Tensor:
    given = entry and (entry["dtype"], tuple(entry["shape"]))
    size = math.prod(shape) * _DTYPES[dtype].itemsize
    if entry is None or given != (dtype, shape) or entry["data_offsets"][1] - entry["data_offsets"][0] != size:
        raise _damaged(name, f"a tensor is {given}, expected {(dtype, shape)}")
    # A copy, because the bytes of a file cannot be written.
    raw = bytearray(data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]])
    return (
        torch.frombuffer(raw, dtype=_DTYPES[dtype]).reshape(shape) if size else torch.empty(shape, dtype=_DTYPES[dtype])
    )


def _state(name: str, data: bytes, entries: dict[str, Any], header: dict[str, Any], seal: str, start: int) -> State:
    if header["dtype"] not in _PRECISIONS:
        raise Refused(f"state file {name!r} is stored as {header['dtype']}; export it again, as floating point")
    shape = (header["layers"], header["kv_heads"], header["slots"], header["head_dim"])
    stored = _PRECISIONS[header["dtype"]]
    wanted = {
        "keys": (stored, shape),
        "values": (stored, shape),
        "positions": ("I64", (header["slots"],)),
        "active": ("BOOL", (header["layers"], header["slots"])),
    }
    tensors = {tensor: _tensor(name, data, start, entries.get(tensor), *wanted[tensor]) for tensor in wanted}
    active = tensors["active"]
    on = active.all(0)
    if not active.any(0).equal(on):
        slot = int((active.any(0) != on).nonzero()[0, 0])
        raise Refused(f"state file {name!r}: slot {slot} is switched on in some layers only, which vLLM cannot say")
    slots = on.nonzero()[:, 0]
    if not len(slots):
        raise Refused(f"state file {name!r} has no slot that is switched on: it would be served as plain text")
    keys, values = tensors["keys"][:, :, slots], tensors["values"][:, :, slots]
    if not keys.isfinite().all() or not values.isfinite().all():
        raise _damaged(name, "its keys or values are not all finite")
    positions, query = tensors["positions"][slots], header["query_start"]
    if (positions < 0).any() or (positions >= query).any():
        raise _damaged(name, f"its positions are not all from 0 to before {query}")
    return State(keys, values, positions - query, str(header["fingerprint"]), seal)


def _damaged(name: str, what: str) -> Refused:
    return Refused(f"state file {name!r} is damaged: {what}; export it again")
