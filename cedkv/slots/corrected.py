"""Closed-form slots with corrections: how much each counts, how large its value is, which of its tokens it is of."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.state import DemoKV, KVPrefix, Mixture


@dataclass(frozen=True)
class Corrections:
    """What is added to the closed form, place by place of the template; nothing is changed where all are zero.

    log_bias : to the log-bias of slots. gain : to the factor 1 on their values.
    within : logits of a place's tokens, where a slot has tokens of several places.
    """

    log_bias: Float[Tensor, "layers kv_heads places"]
    gain: Float[Tensor, "layers kv_heads places"]
    within: Float[Tensor, "layers kv_heads places"]


def corrected(
    closed: KVPrefix,
    demo_kv: DemoKV,
    along: Float[Tensor, "layers kv_heads slots head_dim"],
    corrections: Corrections,
    shares: Float[Tensor, "slots places"],
    member: Float[Tensor, "places tokens"],
) -> KVPrefix:
    """The closed form with corrections: differentiable in them, and the same bit for bit where they are zero.

    A slot of several places has the mean of their corrections over its tokens.

    along : what a unit of log-bias adds to each slot's key; zero where a head carries no weight.
    shares : of each place among a slot's tokens. member : 1 where a token belongs to a place.
    """
    assert closed.mixture is not None and closed.mixture.log_bias is not None, "closed-form slots say what they count"
    bias = corrections.log_bias @ shares.mT * (along != 0).any(-1)
    gain = 1 + corrections.gain @ shares.mT
    keys, values, weights = closed.keys, closed.values, closed.mixture.weights
    merged = shares.count_nonzero(dim=-1) > 1
    if merged.any():
        outside = weights == 0
        learnt = (corrections.within @ member)[:, :, None].expand(-1, -1, len(shares), -1)
        learnt = learnt.masked_fill(outside, -torch.inf).softmax(-1)
        means = torch.zeros_like(learnt).masked_fill(outside, -torch.inf).softmax(-1)
        moved = (learnt - means) * merged[:, None]
        keys, values = keys + moved @ demo_kv.keys.float(), values + moved @ demo_kv.values.float()
        weights = torch.where(merged[:, None], learnt, weights)
    mixture = Mixture(
        weights.detach(),
        demo_kv.tokens,
        log_bias=(closed.mixture.log_bias + bias).detach(),
        value_gain=gain.detach(),
    )
    return replace(closed, keys=keys + bias[..., None] * along, values=values * gain[..., None], mixture=mixture)
