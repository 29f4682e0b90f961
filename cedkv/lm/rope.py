"""Rotating stored keys to their slots with the model's own rotary module and its own way of applying it."""

import sys
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from cedkv.lm.architectures import rotated_layers
from cedkv.lm.decoder import Decoder
from cedkv.lm.load import LanguageModel


def rotate_keys(
    lm: LanguageModel,
    keys: Float[Tensor, "layers kv_heads tokens head_dim"],
    positions: Int[Tensor, " tokens"],
) -> Float[Tensor, "layers kv_heads tokens head_dim"]:
    """Apply the rotary embedding (Su et al. 2021) of `positions` to pre-RoPE keys, in the keys' own dtype."""
    return rotate(lm.model, keys, positions)


def rotate(
    model: PreTrainedModel,
    keys: Float[Tensor, "layers kv_heads tokens head_dim"],
    positions: Int[Tensor, " tokens"],
) -> Float[Tensor, "layers kv_heads tokens head_dim"]:
    """As `rotate_keys`, for a transformers model that nobody has wrapped."""
    return _applied(model, keys, *_angles(model, keys, positions))


def unrotate_keys(
    model: PreTrainedModel,
    keys: Float[Tensor, "layers kv_heads tokens head_dim"],
    positions: Int[Tensor, " tokens"],
) -> Float[Tensor, "layers kv_heads tokens head_dim"]:
    """Take the rotary embedding off again. Scalings that lengthen keys (yarn) are divided out."""
    cos, sin = _angles(model, keys, positions)
    length = cos.square() + sin.square()
    return _applied(model, keys, cos / length, -sin / length)


def _applied(
    model: PreTrainedModel,
    keys: Float[Tensor, "layers kv_heads tokens head_dim"],
    cos: Float[Tensor, "layers_or_1 tokens rotary_dim"],
    sin: Float[Tensor, "layers_or_1 tokens rotary_dim"],
) -> Float[Tensor, "layers kv_heads tokens head_dim"]:
    """The architecture's own application: some turn a part of each key only, some turn neighbours, not halves."""
    modeling = sys.modules[type(Decoder(model).attentions[0]).__module__]
    return modeling.apply_rotary_pos_emb(keys, keys, cos, sin)[1]


def _angles(
    model: PreTrainedModel, keys: Float[Tensor, "layers kv_heads tokens head_dim"], positions: Int[Tensor, " tokens"]
) -> tuple[Float[Tensor, "layers_or_1 tokens rotary_dim"], Float[Tensor, "layers_or_1 tokens rotary_dim"]]:
    """Cosines and sines of the model's own rotary module, one call per layer type where it has several.

    A layer without rotary embedding is turned by nothing.
    """
    rotary, position_ids = Decoder(model).rotary, positions[None].to(model.device)
    if hasattr(rotary, "layer_types"):
        angles = {name: rotary(keys, position_ids, name) for name in cast(list[str], rotary.layer_types)}
        per_layer = [angles[name] for name in model.config.layer_types]
        return torch.cat([cos for cos, _ in per_layer]), torch.cat([sin for _, sin in per_layer])
    cos, sin = rotary(keys, position_ids)
    turned = torch.tensor(rotated_layers(model.config), device=cos.device)
    if turned.all():
        return cos, sin
    turned = turned[:, None, None]
    return torch.where(turned, cos, 1.0).to(cos.dtype), torch.where(turned, sin, 0.0).to(sin.dtype)
