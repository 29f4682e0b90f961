"""rho1-critic: what both say, as the product of their weights."""

from torch import Tensor

from cedkv.optim.weights import critic, rho1
from cedkv.optim.weights.base import Run, Scorer, ScorerSettings, TokenBatch


def setup(settings: ScorerSettings) -> Run:
    by_excess, by_delta = rho1.setup(settings), critic.setup(settings)

    def run(batch: TokenBatch) -> dict[str, Tensor]:
        delta = by_delta(batch)
        product = by_excess(batch)["weights"] * delta["weights"]
        return {**delta, "weights": batch.spread(product[batch.valid])}

    return run


SCORER = Scorer("rho1-critic", "combined", "1", setup, rho1.SCORER.needs | critic.SCORER.needs)
