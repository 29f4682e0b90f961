"""Weighted cross-entropy of several horizons: which tokens count, and how far ahead a position looks."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from cedkv.errors import NonFiniteError
from cedkv.optim.weights.base import IGNORED


def mtp_weighted_ce(
    logits: Float[Tensor, "batch tokens heads vocab"],
    targets: Int[Tensor, "batch tokens"],
    weights: Float[Tensor, "batch tokens"],
    horizon: int,
    ignore_index: int = IGNORED,
    documents: Int[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, ""]:
    """The weighted mean cross-entropy over all heads, nats; 0 where nothing is to be predicted.

    Targets are the tokens of the texts themselves, as transformers' `labels` are: the one shift there is happens
    here. Head `h` (from 0) at position `s` predicts `targets[:, s + h + 1]`, and a token's weight counts wherever
    the token is predicted. Computed in fp32 whatever the logits are. Where several ranks train, the weights are
    summed over all of them, so that the mean of the ranks' gradients is that of all texts together.

    Parameters
    ----------
    horizon : heads that take part, the first ones.
    documents : which text each token belongs to, where a row packs several; nothing is predicted across a border.

    Raises
    ------
    ValueError
        Shapes do not fit each other, or the horizon the heads; the message names them.
    NonFiniteError
        A logit that is read, or a weight, is not a finite number.

    References
    ----------
    Gloeckle et al. 2024, Better and faster large language models via multi-token prediction.
    """
    return weighted_mean(*horizon_losses(logits, targets, weights, horizon, ignore_index, documents))


def weighted_mean(losses: Float[Tensor, " horizon"], weights: Float[Tensor, " horizon"]) -> Float[Tensor, ""]:
    """The loss, from what `horizon_losses` gives: all heads' losses over all weights, over ranks too."""
    return losses.sum() / _over_ranks(weights.sum())


def horizon_losses(
    logits: Float[Tensor, "batch tokens heads vocab"],
    targets: Int[Tensor, "batch tokens"],
    weights: Float[Tensor, "batch tokens"],
    horizon: int,
    ignore_index: int = IGNORED,
    documents: Int[Tensor, "batch tokens"] | None = None,
) -> tuple[Float[Tensor, " horizon"], Float[Tensor, " horizon"]]:
    """Per head the weighted sum of cross-entropies (nats) and the sum of its weights; raises as `mtp_weighted_ce`."""
    _check(logits, targets, weights, horizon, documents)
    losses, sums = [], []
    for head in range(horizon):
        ahead = head + 1
        valid = predicted(targets, ahead, ignore_index, documents)
        read = logits[:, : max(logits.shape[1] - ahead, 0), head][valid].float()
        weight = weights[:, ahead:][valid].float()
        if not torch.isfinite(read).all():
            raise NonFiniteError(f"logits of head {head} {list(logits.shape)} are not all finite; lower the rate")
        if not torch.isfinite(weight).all():
            raise NonFiniteError(f"weights {list(weights.shape)} read by head {head} are not all finite")
        losses.append((weight * cross_entropy(read, targets[:, ahead:][valid], reduction="none")).sum())
        sums.append(weight.sum())
    return torch.stack(losses), torch.stack(sums)


def predicted(
    targets: Int[Tensor, "batch tokens"],
    ahead: int = 1,
    ignore_index: int = IGNORED,
    documents: Int[Tensor, "batch tokens"] | None = None,
) -> Bool[Tensor, "batch later"]:
    """Which of the targets from position `ahead` on are predicted from `ahead` positions before, in the same text."""
    valid = targets[:, ahead:] != ignore_index
    if documents is not None:
        valid = valid & (documents[:, ahead:] == documents[:, : valid.shape[1]])
    return valid


def _over_ranks(weight: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The mean over ranks of what each of them has, and no zero to divide by."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        weight = weight.clone()
        torch.distributed.all_reduce(weight)
        weight = weight / torch.distributed.get_world_size()
    return torch.where(weight > 0, weight, torch.ones_like(weight))


def _check(logits: Tensor, targets: Tensor, weights: Tensor, horizon: int, documents: Tensor | None) -> None:
    if logits.dim() != 4:
        raise ValueError(f"logits have shape {list(logits.shape)}; they must be [batch, tokens, heads, vocab]")
    expected = list(logits.shape[:2])
    for name, tensor in {"targets": targets, "weights": weights, "documents": documents}.items():
        if tensor is not None and list(tensor.shape) != expected:
            raise ValueError(
                f"{name} have shape {list(tensor.shape)}, logits {list(logits.shape)}; {name} must be {expected}"
            )
    if not 1 <= horizon <= logits.shape[2]:
        raise ValueError(f"horizon {horizon} does not fit logits of {logits.shape[2]} heads, {list(logits.shape)}")
