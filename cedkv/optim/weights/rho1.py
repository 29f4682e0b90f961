"""rho1-excess-v1: a token counts when the model is worse on it than a reference that knows more."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.optim.weights.base import Run, Scorer, ScorerSettings, TokenBatch


def setup(settings: ScorerSettings) -> Run:
    def run(batch: TokenBatch) -> dict[str, Tensor]:
        excess = (batch.loss - batch.read("reference_loss"))[batch.valid].float()
        return {"weights": batch.spread(kept(excess, settings))}

    return run


def kept(excess: Float[Tensor, " tokens"], settings: ScorerSettings) -> Float[Tensor, " tokens"]:
    """1 for the share of largest excess and 0 for the others, or a sigmoid around the same cut.

    The excess is signed: a token that the reference finds harder than the model does comes last.

    References
    ----------
    Lin et al. 2024, Rho-1: not all tokens are what you need (selective language modelling).
    """
    if not len(excess):
        return excess
    order = excess.argsort(descending=True, stable=True)
    count = max(1, math.ceil(settings.share * len(excess)))
    if settings.selection == "soft":
        return ((excess - excess[order[count - 1]]) / settings.temperature).sigmoid()
    weights = torch.zeros_like(excess)
    weights[order[:count]] = 1.0
    return weights


SCORER = Scorer("rho1-excess-v1", "reference", "1", setup, frozenset({"reference"}))
