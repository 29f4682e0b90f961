"""Rotating stored keys to their slots with the model's own rotary module."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.models.llama.modeling_llama import rotate_half

from cedkv.lm.load import LanguageModel


def rotate_keys(
    lm: LanguageModel,
    keys: Float[Tensor, "layers kv_heads tokens head_dim"],
    positions: Int[Tensor, " tokens"],
) -> Float[Tensor, "layers kv_heads tokens head_dim"]:
    """Apply the rotary embedding (Su et al. 2021) of `positions` to pre-RoPE keys, in the keys' own dtype.

    Frequencies come from the model's rotary module, one call per layer type where it has several.
    """
    rotary = lm.model.model.rotary_emb
    position_ids = positions[None].to(lm.device)
    if not hasattr(rotary, "layer_types"):
        cos, sin = rotary(keys, position_ids)
        return keys * cos + rotate_half(keys) * sin
    angles = {name: rotary(keys, position_ids, name) for name in rotary.layer_types}
    per_layer = [angles[name] for name in lm.model.config.layer_types]
    cos = torch.stack([cos for cos, _ in per_layer])
    sin = torch.stack([sin for _, sin in per_layer])
    return keys * cos + rotate_half(keys) * sin
