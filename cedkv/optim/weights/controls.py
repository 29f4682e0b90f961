"""Controls: what weighting buys must be more than these buy."""

import torch
from torch import Tensor

from cedkv.optim.weights import rho1
from cedkv.optim.weights.base import Run, Scorer, ScorerSettings, TokenBatch


def uniform(settings: ScorerSettings) -> Run:
    """Every token alike."""
    return lambda batch: {"weights": batch.spread(torch.ones_like(batch.loss[batch.valid]))}


def shuffled(settings: ScorerSettings) -> Run:
    """The weights of `rho1-excess-v1`, dealt out to the batch's tokens at random."""
    run_rho1 = rho1.setup(settings)

    def run(batch: TokenBatch) -> dict[str, Tensor]:
        weights = run_rho1(batch)["weights"][batch.valid]
        order = torch.randperm(len(weights), generator=batch.draw(settings.seed))
        return {"weights": batch.spread(weights[order.to(weights.device)])}

    return run


def random_matched(settings: ScorerSettings) -> Run:
    """As many tokens kept as `rho1-excess-v1` keeps, chosen at random and without a reference."""

    def run(batch: TokenBatch) -> dict[str, Tensor]:
        tokens = int(batch.valid.sum())
        noise = torch.rand(tokens, generator=batch.draw(settings.seed)).to(batch.loss.device)
        return {"weights": batch.spread(rho1.kept(noise, settings))}

    return run


UNIFORM = Scorer("uniform", "control", "1", uniform)
SHUFFLED = Scorer("shuffled", "control", "1", shuffled, rho1.SCORER.needs)
RANDOM_MATCHED = Scorer("random-matched", "control", "1", random_matched)
