"""Does a cheap proxy predict what the gate measures: linear and rank correlation."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

MIN_POINTS = 3
# Numbers, or a tensor of one axis.
Series = Sequence[float] | Tensor


def pearson(x: Series, y: Series) -> float:
    """Pearson's linear correlation, computed in fp64.

    Returns
    -------
    float
        In [-1, 1]; ``nan`` for fewer than three points, a constant series or a ``nan`` in either one.

    Raises
    ------
    ValueError
        If the series differ in length.
    """
    x, y = _series(x), _series(y)
    if len(x) != len(y):
        raise ValueError(f"series of {len(x)} and {len(y)} points cannot be correlated")
    # Compared with its own extremes, because the variance of a constant 0.1 is not exactly zero.
    if len(x) < MIN_POINTS or x.min() == x.max() or y.min() == y.max():
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    return (x @ y / (x.norm() * y.norm())).clamp(-1, 1).item()


def spearman(x: Series, y: Series) -> float:
    """Spearman's rank correlation: `pearson` of the ranks, ties sharing their mean rank."""
    return pearson(_ranks(_series(x)), _ranks(_series(y)))


def _series(x: Series) -> Float[Tensor, " n"]:
    return torch.as_tensor(x, dtype=torch.float64, device="cpu")


def _ranks(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    _, group, size = x.unique(return_inverse=True, return_counts=True)
    mean_rank = size.cumsum(0) - (size - 1) / 2
    # A nan has no rank; left alone it would be ranked as the largest value.
    return torch.where(x.isnan(), x, mean_rank[group].double())
