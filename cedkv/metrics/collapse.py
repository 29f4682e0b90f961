"""Have slots collapsed onto each other: similarity of keys, values and attributions, and effective rank."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cedkv.report import CollapseBlock

NEAR_COPY_COSINE = 0.95
NEAR_COPY_OVERLAP = 0.8


def slot_cosine(x: Float[Tensor, "layers kv_heads slots head_dim"]) -> Float[Tensor, "slots slots"]:
    """Cosine of every pair of slots, mean over layers and heads (fp32). A zero vector has cosine 0 to all."""
    unit = F.normalize(x.float(), dim=-1)
    return (unit @ unit.mT).mean(dim=(0, 1))


def attribution_overlap(weights: Float[Tensor, "layers heads slots tokens"]) -> Float[Tensor, "slots slots"]:
    """Weight that two slots put on the same tokens, ``sum_t min(a_i, a_j)``, mean over layers and heads (fp32).

    For rows on the simplex this is one minus their total variation distance: 1 = identical, 0 = disjoint.
    """
    weights = weights.float()
    # One slot against all at a time: memory stays that of the mixture, not slots times as much.
    rows = [torch.minimum(slot, weights).sum(-1).mean(dim=(0, 1)) for slot in weights.split(1, dim=2)]
    return torch.stack(rows)


def effective_rank(x: Float[Tensor, "layers kv_heads slots head_dim"]) -> float:
    """How many independent directions the slots span: between 1 and the number of slots, 0 if all are zero.

    The exponential of the entropy (nats) of the normalised singular values of the matrix
    slots x (layers * kv_heads * head_dim): Roy & Vetterli 2007, "The effective rank: a measure of
    effective dimensionality".
    """
    singular = torch.linalg.svdvals(x.float().movedim(2, 0).flatten(1))
    if not singular.any():
        return 0.0
    return torch.special.entr(singular / singular.sum()).sum().exp().item()


def collapse_summary(
    keys: Float[Tensor, "layers kv_heads slots head_dim"],
    values: Float[Tensor, "layers kv_heads slots head_dim"],
    weights: Float[Tensor, "scope_layers scope_heads slots tokens"] | None,
) -> CollapseBlock:
    """Whether the slots of a state differ, in numbers and in words.

    Parameters
    ----------
    keys, values
        The slots' pre-RoPE keys and values.
    weights
        The mixture behind them; None for free slots, which have none.

    Returns
    -------
    CollapseBlock
        Maximum and mean over pairs of slots of ``key_cosine``, ``value_cosine`` and ``overlap`` (None without
        weights), ``effective_rank_keys``, ``effective_rank_values``, ``near_copies`` (pairs of slot indices
        counted from 0) and ``verdict`` (plain words, slots counted from 1). A single slot has no pairs: its
        pair statistics are 0.
    """
    slots = values.shape[2]
    pairs = torch.triu_indices(slots, slots, offset=1, device=values.device)
    value_cosine = slot_cosine(values)[*pairs]
    overlap = None if weights is None else attribution_overlap(weights)[*pairs]
    copied = value_cosine > NEAR_COPY_COSINE
    if overlap is not None:
        copied &= overlap > NEAR_COPY_OVERLAP
    near_copies = pairs[:, copied].T.tolist()
    key_max, key_mean = _max_and_mean(slot_cosine(keys)[*pairs])
    value_max, value_mean = _max_and_mean(value_cosine)
    overlap_max, overlap_mean = (None, None) if overlap is None else _max_and_mean(overlap)
    return {
        "key_cosine_max": key_max,
        "key_cosine_mean": key_mean,
        "value_cosine_max": value_max,
        "value_cosine_mean": value_mean,
        "overlap_max": overlap_max,
        "overlap_mean": overlap_mean,
        "effective_rank_keys": effective_rank(keys),
        "effective_rank_values": effective_rank(values),
        "near_copies": near_copies,
        "verdict": _verdict(slots, near_copies),
    }


def _max_and_mean(pairs: Float[Tensor, " pairs"]) -> tuple[float, float]:
    return (pairs.max().item(), pairs.mean().item()) if pairs.numel() else (0.0, 0.0)


def _verdict(slots: int, near_copies: list[list[int]]) -> str:
    if slots == 1:
        return "a single slot: nothing to compare"
    if not near_copies:
        return "both slots differ" if slots == 2 else f"all {slots} slots differ"
    groups = _linked_groups(near_copies)
    if slots > 2 and len(groups[0]) == slots:
        return f"all {slots} slots are near copies"
    return "; ".join(f"slots {_enumerate_from_one(group)} are near copies" for group in groups)


def _linked_groups(pairs: list[list[int]]) -> list[list[int]]:
    """Connected components of the pairs, so that a large collapse reads as one group."""
    groups: list[set[int]] = []
    for pair in pairs:
        touching = [group for group in groups if not group.isdisjoint(pair)]
        groups = [group for group in groups if group.isdisjoint(pair)]
        groups.append(set(pair).union(*touching))
    return sorted(sorted(group) for group in groups)


def _enumerate_from_one(group: list[int]) -> str:
    *head, last = [str(slot + 1) for slot in group]
    return f"{', '.join(head)} and {last}"
