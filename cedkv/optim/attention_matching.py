"""A warm start without a single model step: match attention outputs layer by layer.

Behind the teacher's prefix every layer's attention gives ON queries certain outputs; without a prefix it gives OFF
texts certain others. Slots that give the same queries the same outputs would change nothing further up, so each
layer and head can be fitted by itself, with the queries that teacher and base really had. This is the idea of
attention matching for KV compaction, for mixtures instead of free values: a least-squares problem on the simplex,
solved here by gradient descent on the same parameters that are trained afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.lm import AttentionReading, LanguageModel
from cedkv.optim.mixture import TrainableSlots
from cedkv.optim.schedule import top_k_at


@dataclass(frozen=True)
class MatchingTarget:
    """Queries, as they attended once, and the attention outputs they should get from the slots."""

    reading: AttentionReading
    outputs: Float[Tensor, "layers heads rows head_dim"]

    def distance(self, lm: LanguageModel, slots: TrainableSlots, top_k: int) -> Float[Tensor, "layers heads"]:
        """Mean squared distance of the slots' outputs from the wanted ones."""
        prefix = slots.prefix(top_k)
        outputs = self.reading.outputs(self.reading.scores_of(lm, prefix), prefix.values)
        return (outputs - self.outputs).square().mean(dim=(2, 3))


def match_attention(
    lm: LanguageModel,
    on: MatchingTarget,
    off: MatchingTarget,
    slots: TrainableSlots,
    iterations: int,
    rate: float,
    topk_schedule: Sequence[int],
    off_weight: float,
) -> list[float]:
    """Fit the slots' parameters in place; returns the error before each iteration.

    The error is the squared distance on ON rows plus `off_weight` times that on OFF rows, both in units of what the
    teacher's prefix contributes to ON outputs, mean over layers and heads: 1 is as far as no prefix at all.
    """
    contribution = (on.outputs - on.reading.own_out).square().mean(dim=(2, 3)).clamp_min(1e-12)
    adam = torch.optim.Adam(slots.parameters, lr=rate)
    errors = []
    for iteration in range(iterations):
        top_k = top_k_at(iteration, iterations, topk_schedule)
        distance = on.distance(lm, slots, top_k) + off_weight * off.distance(lm, slots, top_k)
        error = (distance / contribution).mean()
        adam.zero_grad()
        error.backward()
        adam.step()
        errors.append(error.item())
    return errors
