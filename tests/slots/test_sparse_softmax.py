"""Softmax, top-k mask, renormalise; and the cap on a role's mass."""

import math

import pytest
import torch
from torch.testing import assert_close

from cedkv.slots.mixture import cap_mass, sparse_softmax

LOGITS = torch.randn(3, 2, 5, 12, generator=torch.Generator().manual_seed(0))


def masked_softmax(logits: torch.Tensor, top_k: int) -> torch.Tensor:
    """The definition, word by word."""
    weights = logits.softmax(-1)
    smallest_kept = weights.topk(top_k, dim=-1).values[..., -1:]
    masked = weights * (weights >= smallest_kept)
    return masked / masked.sum(-1, keepdim=True)


def test_by_hand():
    # exp(logits) = 6, 1, 3, 2: the two largest are 6 and 3, and 6 + 3 = 9.
    logits = torch.tensor([math.log(6), math.log(1), math.log(3), math.log(2)])
    assert_close(sparse_softmax(logits, 2), torch.tensor([6 / 9, 0, 3 / 9, 0]))
    assert_close(sparse_softmax(logits, 3), torch.tensor([6 / 11, 0, 3 / 11, 2 / 11]))
    assert_close(sparse_softmax(logits, 1), torch.tensor([1.0, 0, 0, 0]))


@pytest.mark.parametrize("top_k", [1, 3, 12])
def test_it_is_softmax_masked_and_renormalised(top_k):
    assert_close(sparse_softmax(LOGITS, top_k), masked_softmax(LOGITS, top_k))


@pytest.mark.parametrize("top_k", [1, 4, 12, 50])
def test_rows_lie_on_the_simplex_with_at_most_k_tokens(top_k):
    weights = sparse_softmax(LOGITS, top_k)
    assert (weights >= 0).all()
    assert_close(weights.sum(-1), torch.ones(3, 2, 5))
    assert (weights > 0).sum(-1).max() == min(top_k, 12)


def test_only_the_tokens_that_are_kept_get_gradients():
    logits = LOGITS.clone().requires_grad_()
    weights = sparse_softmax(logits, 3)
    (weights * torch.arange(12.0)).sum().backward()
    assert torch.equal(logits.grad != 0, weights > 0)


def test_tokens_that_are_not_allowed_get_nothing():
    allowed = torch.arange(12) % 3 == 0
    weights = sparse_softmax(LOGITS, 6, allowed)
    assert (weights[..., ~allowed] == 0).all()
    assert_close(weights[..., allowed], LOGITS[..., allowed].softmax(-1))


def test_the_shape_of_the_cap_by_hand():
    weights = torch.tensor([[0.4, 0.4, 0.1, 0.1], [0.1, 0.1, 0.4, 0.4]])
    capped = torch.tensor([True, True, False, False])
    # 0.8 is cut to 0.5: the first two shrink by 5/8, the others grow by 5/2. The second row is below the cap.
    expected = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.1, 0.1, 0.4, 0.4]])
    assert_close(cap_mass(weights, capped, 0.5), expected)


def test_a_row_that_has_nothing_else_keeps_its_mass():
    weights = torch.tensor([[0.7, 0.3, 0.0]])
    assert_close(cap_mass(weights, torch.tensor([True, True, False]), 0.5), weights)


def test_the_cap_keeps_rows_on_the_simplex_and_is_differentiable():
    logits = LOGITS.clone().requires_grad_()
    capped = torch.arange(12) < 7
    weights = cap_mass(sparse_softmax(logits, 8), capped, 0.3)
    assert_close(weights.sum(-1), torch.ones(3, 2, 5))
    others = (weights[..., ~capped] > 0).any(-1)
    assert (weights[..., capped].sum(-1)[others] <= 0.3 + 1e-6).all()
    weights.square().sum().backward()
    assert logits.grad.isfinite().all()
