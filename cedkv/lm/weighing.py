"""A slot's weight: a log-bias on its attention scores, carried by its key.

A slot that stands for `n` tokens should count as often as they do: `log n` more on every score. Attention has no place
for such a number, but the queries of one layer and key/value head share a direction: there is a vector `w` with
`q . w * scaling = 1` for nearly all of them. With `key = mixture + b * w` every query feels the slot `exp(b)` times, in
stock attention, in any engine. `w` belongs to the model: it is fitted once, on texts that know of no relation.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cedkv.errors import OutputError
from cedkv.lm.convert import cache_root
from cedkv.lm.load import LanguageModel
from cedkv.lm.observe import AttentionReading, read_attention
from cedkv.lm.rope import rotate_keys, unrotate_keys
from cedkv.state.container import write_container

# Directions that come with the package, those of the embedded model; made by `python benchmarks/calibrate.py`.
SHIPPED = Path(__file__).parent / "directions"
# Raised with every change of how directions are fitted: files of another version are not read.
_VERSION = 1
# Pulls the solution towards small numbers, as a share of the queries' mean square.
_RIDGE = 1e-3
# Every so many-th text judges the fit and has no part in it.
_HELD_OUT = 4
_TEXTS_AT_ONCE = 4
# Tokens read of each text: the distances from the slots at which queries and answers stand.
_READ_TOKENS = 64
# Root mean square of what a score misses of 1, above which a head carries no weight: one query in three would count a
# slot of n tokens as fewer than sqrt(n) or as more than n * sqrt(n) of them.
MAX_ERROR = 0.5


@dataclass(frozen=True)
class WeightDirections:
    """The model's weight directions, as they are at the place right before the query.

    fitted : pre-RoPE.
    error : root mean square of `q . w * scaling - 1` over the queries of texts that the fit has not seen.
    """

    fitted: Float[Tensor, "layers kv_heads head_dim"]
    error: Float[Tensor, "layers kv_heads"]

    @property
    def usable(self) -> Bool[Tensor, "layers kv_heads"]:
        """Heads in which a slot can carry a weight."""
        return self.error <= MAX_ERROR

    def at(
        self, lm: LanguageModel, positions: Int[Tensor, " slots"], query_start: int
    ) -> Float[Tensor, "layers kv_heads slots head_dim"]:
        """What to add to the pre-RoPE keys of slots at these positions, per unit of log-bias; zero in unusable heads.

        A query feels the same vector wherever the slot stands, so it is turned to where it was fitted.
        """
        vectors = (self.fitted * self.usable[..., None])[:, :, None].to(lm.device)
        felt = rotate_keys(lm, vectors, torch.tensor([query_start - 1], device=lm.device))
        return unrotate_keys(lm.model, felt.expand(-1, -1, len(positions), -1), positions)


def weight_directions(lm: LanguageModel, texts: Sequence[str]) -> WeightDirections:
    """The directions of a model, fitted on neutral texts once and kept in the user's cache.

    Parameters
    ----------
    texts : of as many kinds as there are; the first tokens of each are read.
    """
    known = known_directions(lm, texts)
    if known is not None:
        return known
    directions = fit_directions(lm, texts)
    with suppress(OutputError):  # a cache that cannot be written costs the next fit, not this result
        keep_directions(directions, cache_root() / "directions" / directions_name(lm, texts))
    return directions


def known_directions(lm: LanguageModel, texts: Sequence[str]) -> WeightDirections | None:
    """Those that ship for a model, or that an earlier fit has left in the user's cache; None where there are none."""
    for folder in (SHIPPED, cache_root() / "directions"):
        with suppress(OSError, SafetensorError, TypeError):  # not there, or damaged
            return WeightDirections(**load_file(folder / directions_name(lm, texts)))
    return None


def directions_name(lm: LanguageModel, texts: Sequence[str]) -> str:
    """A file's name, by all that decides on what is in it: model, precision, texts and how directions are fitted."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    return f"{lm.fingerprint}-{str(lm.dtype).removeprefix('torch.')}-{digest}-v{_VERSION}.safetensors"


def keep_directions(directions: WeightDirections, path: Path) -> None:
    """Raises `OutputError` where the file cannot be written."""
    write_container(path, {name: tensor.contiguous() for name, tensor in vars(directions).items()}, {})


def fit_directions(lm: LanguageModel, texts: Sequence[str]) -> WeightDirections:
    """Ridge regression of the constant 1 on query rows, per layer and key/value head over all heads that share it."""
    fitting = [text for index, text in enumerate(texts) if index % _HELD_OUT]
    size = lm.head_dim
    squares = torch.zeros(lm.layers, lm.kv_heads, size, size, dtype=torch.float64)
    sums, count = torch.zeros(lm.layers, lm.kv_heads, size, dtype=torch.float64), 0
    for rows in _query_rows(lm, fitting):
        rows, count = rows.double(), count + rows.shape[2]
        squares += rows.mT @ rows
        sums += rows.sum(2)
    mean_square = squares.diagonal(dim1=-2, dim2=-1).mean(-1)
    ridge = _RIDGE * mean_square[..., None, None] * torch.eye(size, dtype=torch.float64)
    felt = torch.linalg.solve(squares + ridge, sums[..., None])[..., 0].float()
    missed, count = torch.zeros(lm.layers, lm.kv_heads), 0
    for rows in _query_rows(lm, texts[::_HELD_OUT]):
        missed += ((rows @ felt[..., None])[..., 0] - 1).square().sum(-1)
        count += rows.shape[2]
    at_last_slot = torch.zeros(1, dtype=torch.long, device=lm.device)
    fitted = unrotate_keys(lm.model, felt[:, :, None].to(lm.device), at_last_slot)[:, :, 0]
    return WeightDirections(fitted.cpu(), (missed / count).sqrt())


def _query_rows(lm: LanguageModel, texts: Sequence[str]) -> Iterator[Float[Tensor, "layers kv_heads rows head_dim"]]:
    """Scaled and rotated queries of texts, heads of one key/value head together.

    Of every text the first token, the sink, is left out: it stands where the last slot will, the query begins after it.
    """
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        ids = [lm.encode(text)[:_READ_TOKENS] for text in texts[start : start + _TEXTS_AT_ONCE]]
        reading = read_attention(lm, ids, None)
        yield _behind_first(reading).unflatten(1, (lm.kv_heads, -1)).flatten(2, 3).cpu() * reading.scaling


def _behind_first(reading: AttentionReading) -> Float[Tensor, "layers heads rows head_dim"]:
    kept = torch.ones(reading.query.shape[2], dtype=torch.bool)
    kept[[0, *(reading.last[:-1] + 1).tolist()]] = False
    return reading.query[:, :, kept]
