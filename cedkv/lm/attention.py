"""Attention over a packed batch: many texts in one row without padding, all behind one shared prefix.

Every text keeps to itself: a query token sees the prefix and the earlier tokens of its own text. The prefix is
stored once, whatever the number of texts. The function below is registered with transformers' own attention
interface, so the model's code stays untouched.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED_ATTENTION = "cedkv_packed"
PREFIX_SEGMENT = -1


@dataclass
class AttentionRecorder:
    """Collects attention probabilities of chosen rows, layer by layer, during a forward.

    rows : indices of the packed tokens whose attention is kept.
    probabilities : per layer `[heads, rows, keys]`, in fp32.
    """

    rows: Int[Tensor, " rows"]
    probabilities: list[Float[Tensor, "heads rows keys"]] = field(default_factory=list)


@dataclass
class PackedBatch:
    """Who may attend to whom. `keys` counts the cached prefix and all packed tokens, in cache order."""

    key_segment: Int[Tensor, " keys"]
    key_position: Int[Tensor, " keys"]
    query_segment: Int[Tensor, " tokens"]
    query_position: Int[Tensor, " tokens"]
    active: Bool[Tensor, "layers prefix"]
    dtype: torch.dtype
    recorder: AttentionRecorder | None = None
    _biases: dict = field(default_factory=dict)

    def bias(self, layer: int, window: int | None) -> Float[Tensor, "1 1 tokens keys"]:
        """The additive mask of one layer. Layers with the same window and the same active slots share it."""
        row = self.active[layer]
        key = (window, row.cpu().numpy().tobytes())
        if key not in self._biases:
            allowed = self._allowed(row, window)
            bias = torch.zeros(allowed.shape, dtype=self.dtype, device=allowed.device)
            self._biases[key] = bias.masked_fill_(~allowed, torch.finfo(self.dtype).min)[None, None]
        return self._biases[key]

    def _allowed(self, row: Bool[Tensor, " prefix"], window: int | None) -> Bool[Tensor, "tokens keys"]:
        in_prefix = self.key_segment == PREFIX_SEGMENT
        visible = torch.ones_like(in_prefix)
        visible[: row.shape[0]] = row
        own = self.query_segment[:, None] == self.key_segment[None]
        distance = self.query_position[:, None] - self.key_position[None]
        allowed = (own | in_prefix) & visible & (distance >= 0)
        return allowed if window is None else allowed & (distance < window)


def packed_attention(
    module: torch.nn.Module,
    query: Float[Tensor, "1 heads tokens head_dim"],
    key: Float[Tensor, "1 kv_heads keys head_dim"],
    value: Float[Tensor, "1 kv_heads keys head_dim"],
    attention_mask: Tensor | None,
    scaling: float,
    packed: PackedBatch | None = None,
    sliding_window: int | None = None,
    **kwargs,
) -> tuple[Float[Tensor, "1 tokens heads head_dim"], None]:
    """The attention function transformers calls. Without `packed` it is transformers' own SDPA."""
    if packed is None:
        kwargs["sliding_window"] = sliding_window
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    bias = packed.bias(module.layer_idx, sliding_window)
    if packed.recorder is not None:
        _record(packed.recorder, query, key, bias, scaling)
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    out = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scaling)
    return out.transpose(1, 2), None


def _record(recorder: AttentionRecorder, query: Tensor, key: Tensor, bias: Tensor, scaling: float) -> None:
    groups = query.shape[1] // key.shape[1]
    rows = query[0, :, recorder.rows].float()
    keys = key[0].repeat_interleave(groups, dim=0).float()
    scores = rows @ keys.transpose(1, 2) * scaling + bias[0, :, recorder.rows].float()
    recorder.probabilities.append(scores.softmax(dim=-1))


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)
