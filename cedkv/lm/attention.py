"""Attention over a packed batch: many texts in one row without padding, all behind one shared prefix.

Every text keeps to itself: a query token sees the prefix and the earlier tokens of its own text. The prefix is
stored once, whatever the number of texts. The function below is registered with transformers' own attention
interface, so the model's code stays untouched.
"""

from dataclasses import dataclass, field
from typing import cast

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
    """Collects, layer by layer during a forward, how chosen rows attend to the prefix and to their own text.

    Attention to the prefix and to the text is kept apart, so that what another prefix would give can be computed:
    a row's output is the softmax over `[prefix_scores, own_lse]` of `[prefix values, own_out]`. All fp32.

    Attributes
    ----------
    rows : indices of the packed tokens that are kept.
    query : rotated queries.
    prefix_scores : scaled and masked scores of the prefix tokens.
    own_lse : log-sum-exp of the scores of the row's own text.
    own_out : what attention to its own text alone would give.
    """

    rows: Int[Tensor, " rows"]
    prefix: int
    query: list[Float[Tensor, "heads rows head_dim"]] = field(default_factory=list)
    prefix_scores: list[Float[Tensor, "heads rows prefix"]] = field(default_factory=list)
    own_lse: list[Float[Tensor, "heads rows"]] = field(default_factory=list)
    own_out: list[Float[Tensor, "heads rows head_dim"]] = field(default_factory=list)

    def record(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float) -> None:
        """Keep one layer; arguments as in `packed_attention`, keys and values already one per head."""
        rows = query[0, :, self.rows].float()
        scores = rows @ key[0].float().mT * scaling + bias[0, :, self.rows].float()
        own = scores[..., self.prefix :]
        self.query.append(rows)
        self.prefix_scores.append(scores[..., : self.prefix])
        self.own_lse.append(own.logsumexp(-1))
        self.own_out.append(own.softmax(-1) @ value[0, :, self.prefix :].float())


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
    query: Float[Tensor, "batch heads tokens head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    value: Float[Tensor, "batch kv_heads keys head_dim"],
    attention_mask: Tensor | None,
    scaling: float,
    packed: PackedBatch | None = None,
    sliding_window: int | None = None,
    **kwargs,
) -> tuple[Float[Tensor, "batch tokens heads head_dim"], None]:
    """The attention function transformers calls. Without `packed` it is transformers' own SDPA, on any batch."""
    if packed is None:
        kwargs["sliding_window"] = sliding_window
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    bias, groups = packed.bias(cast(int, module.layer_idx), sliding_window), query.shape[1] // key.shape[1]

    def per_head(part: Tensor) -> Tensor:
        return part.repeat_interleave(groups, dim=1)

    if packed.recorder is not None:  # which changes nothing in what is computed
        packed.recorder.record(query, per_head(key), per_head(value), bias, scaling)
    if key.dtype == torch.bfloat16 and key.device.type == "cpu":
        return attention_by_products(query, key, value, bias, scaling).transpose(1, 2), None
    out = scaled_dot_product_attention(query, per_head(key), per_head(value), attn_mask=bias, scale=scaling)
    return out.transpose(1, 2), None


def attention_by_products(
    query: Float[Tensor, "1 heads tokens head_dim"],
    key: Float[Tensor, "1 kv_heads keys head_dim"],
    value: Float[Tensor, "1 kv_heads keys head_dim"],
    bias: Float[Tensor, "1 1 tokens keys"],
    scaling: float,
) -> Float[Tensor, "1 heads tokens head_dim"]:
    """Attention as two matrix products and a softmax in fp32 between them, heads of one key/value head together.

    In bf16 on a processor that multiplies it natively, forward and backward together take less than half of the time
    that PyTorch's flash kernel does, whose backward has no native products, and a whole forward without gradients a
    quarter less. In fp32 there is nothing to gain.
    """
    _, heads, tokens, head_dim = query.shape
    kv_heads, keys = key.shape[1:3]
    scores = (query * scaling).reshape(kv_heads, -1, head_dim) @ key[0].mT
    shares = (scores.view(heads, tokens, keys) + bias[0]).softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    return (shares.view(kv_heads, -1, keys) @ value[0]).view(1, heads, tokens, head_dim)


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)
