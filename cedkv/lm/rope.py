"""Rotating stored keys to their slots with the model's own rotary module."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import rotate_half

from cedkv.lm.decoder import Decoder
from cedkv.lm.load import LanguageModel


def rotate_keys(
    lm: LanguageModel,
    keys: Float[Tensor, "layers kv_heads tokens head_dim"],
    positions: Int[Tensor, " tokens"],
) -> Float[Tensor, "layers kv_heads tokens head_dim"]:
    """Apply the rotary embedding (Su et al. 2021) of `positions` to pre-RoPE keys, in the keys' own dtype."""
    cos, sin = rotary_angles(lm.model, keys, positions)
    return keys * cos + rotate_half(keys) * sin


def unrotate_keys(
    model: PreTrainedModel,
    keys: Float[Tensor, "layers kv_heads tokens head_dim"],
    positions: Int[Tensor, " tokens"],
) -> Float[Tensor, "layers kv_heads tokens head_dim"]:
    """Take the rotary embedding off again. Scalings that lengthen keys (yarn) are divided out."""
    cos, sin = rotary_angles(model, keys, positions)
    return (keys * cos - rotate_half(keys) * sin) / (cos.square() + sin.square())


def rotary_angles(
    model: PreTrainedModel, keys: Float[Tensor, "layers kv_heads tokens head_dim"], positions: Int[Tensor, " tokens"]
) -> tuple[Float[Tensor, "layers_or_1 1 tokens head_dim"], Float[Tensor, "layers_or_1 1 tokens head_dim"]]:
    """Cosines and sines of the model's own rotary module, one call per layer type where it has several."""
    rotary, position_ids = Decoder(model).rotary, positions[None].to(model.device)
    if not hasattr(rotary, "layer_types"):
        cos, sin = rotary(keys, position_ids)
        return cos[:, None], sin[:, None]
    angles = {name: rotary(keys, position_ids, name) for name in rotary.layer_types}
    per_layer = [angles[name] for name in model.config.layer_types]
    return torch.stack([cos for cos, _ in per_layer]), torch.stack([sin for _, sin in per_layer])
