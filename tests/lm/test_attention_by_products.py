"""Attention as plain products, which training in bf16 takes on a processor: PyTorch's own numbers and gradients."""

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from cedkv.lm.attention import attention_by_products


def test_it_gives_the_outputs_and_gradients_of_pytorchs_attention():
    draw = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, rows, 8, generator=draw, requires_grad=True) for heads, rows in ((6, 5), (2, 7), (2, 7))
    )
    hidden = torch.ones(5, 7).triu(3).bool()
    bias = torch.zeros(1, 1, 5, 7).masked_fill(hidden, torch.finfo(torch.float32).min)
    repeated = (part.repeat_interleave(3, dim=1) for part in (key, value))
    wanted = scaled_dot_product_attention(query, *repeated, attn_mask=bias, scale=0.3)
    given = attention_by_products(query, key, value, bias, 0.3)
    assert_close(given, wanted)
    for mine, theirs in zip(
        *(torch.autograd.grad(out.square().sum(), (query, key, value)) for out in (given, wanted)), strict=True
    ):
        assert_close(mine, theirs)
