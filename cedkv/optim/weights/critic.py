"""critic-delta-v1: a token counts when reading it changes what a critic expects of the answer."""

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.optim.weights.base import Run, Scorer, ScorerSettings, TokenBatch

# Standard deviations beyond which a delta counts no further.
_FARTHEST = 3.0
# Deltas closer together than this, in parts of a probability, say nothing.
_LEAST = 1e-4


def setup(settings: ScorerSettings) -> Run:
    def run(batch: TokenBatch) -> dict[str, Tensor]:
        delta = deltas(batch.read("values"))[batch.valid].float()
        away = delta - delta.mean()
        standard = away / away.square().mean().sqrt().clamp(min=_LEAST)
        weights = (standard.clamp(-_FARTHEST, _FARTHEST) / settings.temperature).exp()
        return {"weights": batch.spread(weights), "delta": delta}

    return run


def deltas(values: Float[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens"]:
    """`delta_t = V(s_t) - V(s_{t-1})`: what reading token `t` did to the value; 0 for a row's first token."""
    return torch.cat([torch.zeros_like(values[:, :1]), values[:, 1:] - values[:, :-1]], dim=1)


SCORER = Scorer("critic-delta-v1", "critic", "1", setup, frozenset({"values"}))
