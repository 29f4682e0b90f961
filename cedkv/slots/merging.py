"""Chunks brought to any number: merged by what a merge costs in attention outputs, split by similarity of keys.

Delimiters are not interchangeable, so roles say nothing about which places may share a slot. What a merge costs is
measured on the last demonstration as it attends to those before it: it is a query of the relation that everybody has.
Where its answer begins and goes on counts as much as all of it.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cedkv.lm import AttentionReading, LanguageModel, read_attention
from cedkv.slots.chunked import Chunk, chunk_weights, in_template_order
from cedkv.state import DemoKV, DemoTokens, KVPrefix

_LLOYD_ITERATIONS = 10
# Tokens of the last demonstration that are looked at, and pairs of chunks that are tried at once.
LAST_TAIL, _PAIRS_AT_ONCE = 16, 512
_TINY = 1e-12


def fitted_chunks(
    lm: LanguageModel,
    demo_kv: DemoKV,
    chunks: Sequence[Chunk],
    slots: int,
    weight: float,
    reading: AttentionReading | None = None,
) -> list[Chunk]:
    """As many chunks as slots, or as tokens if those are fewer. The sink stays alone while there are two slots.

    weight : of a slot that stands for n tokens, in units of log n.
    reading : how the last `LAST_TAIL` tokens of the last demonstration attend to those before it, where that is known
        from reading the demonstrations.
    """
    chunks = split_chunks(demo_kv, chunks, slots)
    if len(chunks) <= slots:
        return chunks
    return _merged(lm, demo_kv, chunks, slots, weight, reading or _read_again(lm, demo_kv))


def split_chunks(demo_kv: DemoKV, chunks: Sequence[Chunk], slots: int) -> list[Chunk]:
    """Split in two, until there are enough, the chunk whose keys differ most in total, where they differ most."""
    chunks = list(chunks)
    features = torch.nn.functional.normalize(demo_kv.keys.float(), dim=-1).permute(2, 0, 1, 3).flatten(1)
    while len(chunks) < min(slots, len(demo_kv.tokens)):
        spread = [_spread(features[list(chunk)]) if len(chunk) > 1 else -1.0 for chunk in chunks]
        widest = chunks.pop(spread.index(max(spread)))
        chunks += _halves(widest, features[list(widest)])
    return in_template_order(demo_kv.tokens, chunks)


def _spread(rows: Float[Tensor, "tokens features"]) -> float:
    return (rows - rows.mean(0)).square().sum().item()


def _halves(chunk: Chunk, rows: Float[Tensor, "tokens features"]) -> list[Chunk]:
    """Two clusters of tokens by Lloyd's algorithm, begun at the two that are far apart."""
    first = torch.cdist(rows.mean(0, keepdim=True), rows).argmax()
    centres = rows[torch.stack([first, torch.cdist(rows[first][None], rows).argmax()])]
    for _ in range(_LLOYD_ITERATIONS):
        second = torch.cdist(rows, centres).argmin(1) == 1
        if second.all() or not second.any():  # all keys are the same
            second = torch.arange(len(chunk)) >= len(chunk) // 2
        centres = torch.stack([rows[~second].mean(0), rows[second].mean(0)])
    return [tuple(token for token, other in zip(chunk, second, strict=True) if other == half) for half in (False, True)]


def _merged(
    lm: LanguageModel,
    demo_kv: DemoKV,
    chunks: Sequence[Chunk],
    slots: int,
    weight: float,
    reading: AttentionReading,
) -> list[Chunk]:
    """Merge the pair that changes the attention outputs least, until few enough chunks are left."""
    chunks, ends = list(chunks), _ends(demo_kv.tokens, reading.query.shape[2])
    wanted = _outputs(_Attended(lm, demo_kv, reading, chunks, weight))
    while len(chunks) > slots:
        # The sink is merged last: everything leans on it.
        pairs = torch.combinations(torch.arange(len(chunks)))
        pairs = pairs[pairs[:, 0] > 0] if len(chunks) > 2 else pairs
        costs = merge_costs(_Attended(lm, demo_kv, reading, chunks, weight), pairs, wanted, ends)
        one, other = pairs[costs.argmin()].tolist()
        merged = tuple(sorted(chunks[one] + chunks[other]))
        chunks = [chunk for index, chunk in enumerate(chunks) if index not in (one, other)] + [merged]
        chunks = in_template_order(demo_kv.tokens, chunks)
    return chunks


def _read_again(lm: LanguageModel, demo_kv: DemoKV) -> AttentionReading:
    """How the last demonstration attends to those before it; a single one or a document, to itself read before."""
    *before, (start, end) = demo_kv.tokens.demo_spans() or [(0, len(demo_kv.tokens))]
    block = demo_kv.as_prefix()
    if before:
        block = replace(block.without(list(range(start, end))), query_start=start)
    return read_attention(lm, [demo_kv.tokens.ids[start:end]], block, tail=LAST_TAIL)


def _ends(tokens: DemoTokens, rows: int) -> list[int]:
    """How many of the last rows are looked at: all, and those from the token that the last output is expected after."""
    *_, (start, end) = tokens.demo_spans() or [(0, len(tokens))]
    outputs = [token for token in range(start, end) if tokens.roles[token] == "output"]
    return [rows, min(rows, end - outputs[0] + 1)] if outputs else [rows]


class _Attended:
    """Chunks as slots, and how the rows of a reading would attend to them.

    shares : of each slot, unnormalised. own : of the row's own text. Both per total of one at the largest score.
    """

    def __init__(
        self, lm: LanguageModel, demo_kv: DemoKV, reading: AttentionReading, chunks: Sequence[Chunk], weight: float
    ) -> None:
        self.lm, self.reading, self.weight = lm, reading, weight
        rows = chunk_weights(chunks, len(demo_kv.tokens)).to(demo_kv.keys.device)
        self.counts = rows.count_nonzero(dim=-1).float()
        self.keys, self.values = rows @ demo_kv.keys.float(), rows @ demo_kv.values.float()
        scores = self._scores(self.keys, self.counts, torch.arange(len(chunks), device=rows.device))
        self.largest = torch.maximum(scores.amax(-1), reading.own_lse)
        self.shares = (scores - self.largest[..., None]).exp()
        self.own = (reading.own_lse - self.largest).exp()

    def _scores(
        self,
        keys: Float[Tensor, "layers kv_heads slots head_dim"],
        counts: Float[Tensor, " slots"],
        positions: Int[Tensor, " slots"],
    ) -> Float[Tensor, "layers heads rows slots"]:
        query_start = len(self.counts)
        active = torch.ones(keys.shape[0], keys.shape[2], dtype=torch.bool, device=keys.device)
        prefix = KVPrefix(keys, keys, positions, query_start, active, "")
        return self.reading.scores_of(self.lm, prefix) + self.weight * counts.log()

    def per_head(
        self, values: Float[Tensor, "layers kv_heads slots head_dim"]
    ) -> Float[Tensor, "layers heads slots head_dim"]:
        return values.repeat_interleave(self.reading.query.shape[1] // values.shape[1], dim=1)

    def merged(
        self, pairs: Int[Tensor, "pairs 2"]
    ) -> tuple[Float[Tensor, "layers heads rows pairs"], Float[Tensor, "pairs 2"]]:
        """Unnormalised shares of what pairs would be merged into, at the later's place, and the part of each in it."""
        counts = self.counts[pairs]
        parts = counts / counts.sum(1, keepdim=True)
        keys = (self.keys[:, :, pairs] * parts[..., None]).sum(3)
        scores = self._scores(keys, counts.sum(1), pairs[:, 1])
        return (scores - self.largest[..., None]).exp(), parts


def _outputs(attended: _Attended) -> Float[Tensor, "layers heads rows head_dim"]:
    total, summed = _sums(attended)
    return summed / total[..., None]


def _sums(
    attended: _Attended,
) -> tuple[Float[Tensor, "layers heads rows"], Float[Tensor, "layers heads rows head_dim"]]:
    """The denominator of attention and its numerator."""
    summed = attended.shares @ attended.per_head(attended.values)
    own = attended.own[..., None] * attended.reading.own_out
    return attended.shares.sum(-1) + attended.own, summed + own


def merge_costs(
    attended: _Attended,
    pairs: Int[Tensor, "pairs 2"],
    wanted: Float[Tensor, "layers heads rows head_dim"],
    ends: Sequence[int],
) -> Float[Tensor, " pairs"]:
    """Squared distance from the wanted outputs if a pair were merged, as a share of what the slots give there: the sum
    over `ends`, numbers of last rows.

    A merge moves the numerator of attention along the pair's two values, so products of vectors are taken once for all
    pairs: |summed + c1 v1 + c2 v2 - total wanted|^2 / total^2, in double precision since large terms cancel, and
    on the processor since not every device has it.
    """
    total, summed = _sums(attended)
    given = (wanted - attended.reading.own_out).square().mean(dim=(1, 3)).cpu()
    values, numerator, goal = (part.cpu().double() for part in (attended.per_head(attended.values), summed, wanted))
    gram, of_sum, of_goal = values @ values.mT, numerator @ values.mT, goal @ values.mT
    squares = [
        (one * other).sum(-1)[..., None] for one, other in ((numerator, numerator), (numerator, goal), (goal, goal))
    ]
    costs = []  # of every layer and row
    for some in pairs.split(_PAIRS_AT_ONCE):
        shares, parts = attended.merged(some)
        gone = attended.shares[..., some]
        moved = (shares[..., None] * parts - gone).cpu().double()
        left = (total[..., None] - gone.sum(-1) + shares).cpu().double()
        far = squares[0] - 2 * left * squares[1] + left.square() * squares[2]
        for this, (index, other) in enumerate((some.mT, some.mT.flip(0))):
            along = moved[..., this]
            far = far + 2 * along * (of_sum[..., index] - left * of_goal[..., index])
            far = far + along * (
                along * gram[:, :, None, index, index] + moved[..., 1 - this] * gram[:, :, None, index, other]
            )
        costs.append((far / left.square()).mean(dim=1) / values.shape[-1])
    distance = torch.cat(costs, dim=-1)
    of_ends = [distance[:, -end:].mean(1) / given[:, -end:].mean(1).clamp_min(_TINY)[:, None] for end in ends]
    return torch.stack(of_ends).sum(0).mean(0).float()
