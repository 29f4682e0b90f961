"""A warm start without a single model step: match attention outputs layer by layer.

Behind the teacher's prefix every layer's attention gives ON queries certain outputs; without a prefix it gives OFF
texts certain others. Slots that give the same queries the same outputs would change nothing further up, so each
layer and head can be fitted by itself, with the queries that teacher and base really had. This is the idea of
attention matching for KV compaction, for mixtures instead of free values: a least-squares problem on the simplex,
solved here by gradient descent on the same parameters that are trained afterwards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.lm import AttentionReading, LanguageModel
from cedkv.optim.schedule import top_k_at
from cedkv.slots.base import MatchedSlots, TrainableSlots
from cedkv.slots.mixture import MixtureSlots


@dataclass(frozen=True)
class MatchingTarget:
    """Queries, as they attended once, and the attention outputs they should get from the slots.

    The rows of all heads that share a key/value head stand together.

    own : what attention to its own text alone gives each row.
    missed : that, less the wanted output.
    own_own, own_missed, missed_missed : their products, row by row.
    """

    reading: AttentionReading
    own: Float[Tensor, "layers kv_heads rows head_dim"]
    missed: Float[Tensor, "layers kv_heads rows head_dim"]
    own_own: Float[Tensor, "layers kv_heads rows"]
    own_missed: Float[Tensor, "layers kv_heads rows"]
    missed_missed: Float[Tensor, "layers kv_heads rows"]

    @classmethod
    def of(
        cls, reading: AttentionReading, outputs: Float[Tensor, "layers heads rows head_dim"], kv_heads: int
    ) -> "MatchingTarget":
        layers, _, _, head_dim = outputs.shape
        shape = (layers, kv_heads, -1, head_dim)
        own, missed = reading.own_out.reshape(shape), (reading.own_out - outputs).reshape(shape)
        products = ((a * b).sum(-1) for a, b in ((own, own), (own, missed), (missed, missed)))
        return cls(reading, own, missed, *products)

    def distance(self, lm: LanguageModel, slots: TrainableSlots, top_k: int) -> Float[Tensor, "layers kv_heads"]:
        """Mean squared distance of the slots' outputs from the wanted ones.

        With the shares `p` that a row gives the slots, its output misses the wanted one by
        `missed + p V - sum(p) own`. Its square is multiplied out, so that nothing of the size of `own` is made anew
        in every iteration: only products with the few slots are.
        """
        prefix = slots.prefix(top_k)
        scores = self.reading.scores_of(lm, prefix).mT
        shares = torch.cat([scores, self.reading.own_lse[:, :, None]], dim=2).softmax(2)[:, :, :-1]
        # [layers, kv_heads, slots, rows], as everything below: slots first, for the sake of speed.
        shares = shares.unflatten(1, (self.own.shape[1], -1)).transpose(2, 3).flatten(3)
        values = prefix.values.float()
        total = shares.sum(2)
        among_slots = (values @ values.mT @ shares * shares).sum(2)
        with_values = (shares * (values @ self.missed.mT - total[:, :, None] * (values @ self.own.mT))).sum(2)
        square = (
            self.missed_missed
            + total.square() * self.own_own
            + among_slots
            + 2 * (with_values - total * self.own_missed)
        )
        return square.mean(-1) / self.own.shape[-1]


@dataclass(frozen=True)
class Matching:
    """What slots are fitted to: attention outputs on ON rows, and on OFF rows, which weigh `off_weight` of them."""

    lm: LanguageModel
    on: MatchingTarget
    off: MatchingTarget
    off_weight: float

    def errors(self, slots: TrainableSlots, top_k: int) -> Float[Tensor, "layers kv_heads"]:
        """Squared distances in units of what the teacher's prefix gives ON outputs: 1 is as far as no prefix at all."""
        contribution = (self.on.missed_missed.mean(-1) / self.on.own.shape[-1]).clamp_min(1e-12)
        distance = self.on.distance(self.lm, slots, top_k)
        return (distance + self.off_weight * self.off.distance(self.lm, slots, top_k)) / contribution


def match_attention(
    matching: Matching, slots: MatchedSlots, iterations: int, rate: float, topk_schedule: Sequence[int]
) -> Iterator[float]:
    """Fit the slots' parameters in place; yields the mean error before each iteration."""
    adam = torch.optim.Adam(slots.parameters, lr=rate)
    for iteration in range(iterations):
        error = matching.errors(slots, top_k_at(iteration, iterations, topk_schedule)).mean()
        adam.zero_grad()
        error.backward()
        adam.step()
        yield error.item()


def choose_start(matching: Matching, slots: MixtureSlots, iterations: int, rate: float, top_k: int) -> Iterator[float]:
    """Fit from each of the slots' starts for a while; every mixture keeps the one that brought it nearer.

    The problem has many local minima, and with few slots it matters which one is near. Layers and heads are fitted by
    themselves, so each may choose by itself. Yields the mean error before each iteration, start by start.
    """
    ends, errors = [], []
    for start in slots.starts():
        slots.set_logits(start)
        yield from match_attention(matching, slots, iterations, rate, (top_k,))
        ends.append([parameter.detach().clone() for parameter in slots.parameters])
        with torch.no_grad():
            errors.append(matching.errors(slots, top_k))
    nearer = _per_mixture(torch.stack(errors), slots.logits.shape[:2]).argmin(0)[..., None, None]
    for parameter, *tried in zip(slots.parameters, *ends, strict=True):
        parameter.data.copy_(torch.stack(tried).take_along_dim(nearer[None], dim=0)[0])


def _per_mixture(
    errors: Float[Tensor, "starts layers kv_heads"], shared: Sequence[int]
) -> Float[Tensor, "starts scope_layers scope_heads"]:
    """Means over the layers and heads that share a mixture."""
    for dim, mixtures in enumerate(shared, start=1):
        errors = errors.mean(dim, keepdim=True) if mixtures == 1 else errors
    return errors
