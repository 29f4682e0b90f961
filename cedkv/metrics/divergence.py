"""How far two next-token distributions are apart, and how heavy the tail of such distances is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.report import OffScores, Tail

REL_KL_EPS = 1e-6


def kl(log_p: Float[Tensor, "*batch vocab"], log_q: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch"]:
    """KL(p || q) in nats, computed in fp32 and differentiable in both arguments.

    Parameters
    ----------
    log_p, log_q
        Normalised log-probabilities. Tokens with p = 0 (``log_p = -inf``) contribute 0 to value and gradient;
        a token with p > 0 and q = 0 makes the divergence ``inf``.

    Notes
    -----
    Nothing is clamped: for p = q up to rounding the result may be a negative number of the order of 1e-7.
    """
    log_p, log_q = log_p.float(), log_q.float()
    p = log_p.exp()
    # Masking the ratio rather than the product keeps 0 * inf = nan out of the backward pass too.
    log_ratio = torch.where(p > 0, log_p - log_q, 0.0)
    return (p * log_ratio).sum(-1)


def rel_kl(
    kl_student_teacher: Float[Tensor, "*batch"], kl_base_teacher: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """The student's distance to the teacher as a fraction of the base's: 0 = teacher reached, 1 = no gain."""
    return kl_student_teacher / (kl_base_teacher + REL_KL_EPS)


def cvar(values: Float[Tensor, " n"], tail_fraction: float) -> Float[Tensor, ""]:
    """Conditional value at risk: the mean of the ``ceil(tail_fraction * n)`` largest values, differentiable.

    Rockafellar & Uryasev 2000, "Optimization of Conditional Value-at-Risk", for n equally likely outcomes;
    the tail is rounded up to whole outcomes.

    Raises
    ------
    ValueError
        If ``tail_fraction`` is not in (0, 1] or ``values`` is empty.
    """
    if not 0 < tail_fraction <= 1:
        raise ValueError(f"tail_fraction is {tail_fraction}, it must be above 0 and at most 1")
    if values.numel() == 0:
        raise ValueError("cvar of no values is undefined")
    # The 1e-9 undoes binary rounding: 0.07 * 100 is 7.000000000000001 and must not become 8.
    tail = max(1, math.ceil(tail_fraction * values.numel() - 1e-9))
    return values.topk(tail).values.mean()


@dataclass(frozen=True)
class TailStats:
    """Size, mean and upper tail of a sample of divergences (nats)."""

    count: int
    mean: float
    p99: float
    max: float

    def as_delta(self) -> Tail:
        """As the report holds the statistics of ``Delta``."""
        return {"count": self.count, "delta_mean": self.mean, "delta_p99": self.p99, "delta_max": self.max}


def tail_stats(delta: Float[Tensor, " n"]) -> TailStats:
    """Count, mean, 99th percentile (linear interpolation) and maximum of ``delta`` in nats.

    Raises
    ------
    ValueError
        If ``delta`` is empty or holds a non-finite value, whose index is named.
    """
    if delta.numel() == 0:
        raise ValueError("tail statistics of no values are undefined")
    delta = delta.detach().float()
    broken = (~delta.isfinite()).nonzero().flatten()
    if broken.numel():
        index = int(broken[0])
        raise ValueError(f"delta[{index}] is {delta[index].item()}, every value must be finite")
    return TailStats(
        count=delta.numel(),
        mean=delta.mean().item(),
        p99=delta.quantile(0.99, interpolation="linear").item(),
        max=delta.max().item(),
    )


def off_summary(delta: Float[Tensor, " n"], buckets: Sequence[str]) -> OffScores:
    """Tail statistics over all OFF texts and per bucket, buckets in order of first appearance.

    Parameters
    ----------
    delta
        Delta(u) in nats, one per OFF text.
    buckets
        The bucket name of each OFF text.

    Returns
    -------
    OffScores
        As `TailStats.as_delta` gives them, over all texts and as ``buckets`` by name.
    """
    if len(buckets) != len(delta):
        raise ValueError(f"{len(buckets)} bucket names were given for {len(delta)} values")
    members: dict[str, list[int]] = {}
    for index, name in enumerate(buckets):
        members.setdefault(name, []).append(index)
    return {
        **tail_stats(delta).as_delta(),
        "buckets": {name: tail_stats(delta[indices]).as_delta() for name, indices in members.items()},
    }
