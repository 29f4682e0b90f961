"""Training goes through the prefix: gradients reach every key and value, and they are the right ones."""

from dataclasses import replace

import pytest
import torch

from cedkv.lm import packed_logits


def loss(tiny, queries, prefix) -> torch.Tensor:
    return -packed_logits(tiny, queries, prefix).log_softmax(dim=-1)[:, 7].mean()


@pytest.fixture
def trained(demo_kv):
    """The demonstrations' prefix with trainable copies of keys and values, short enough for every window."""
    prefix = demo_kv.as_prefix()
    last = slice(prefix.slots - 6, prefix.slots)
    return replace(
        prefix,
        keys=prefix.keys[:, :, last].clone().requires_grad_(),
        values=prefix.values[:, :, last].clone().requires_grad_(),
        positions=prefix.positions[last],
        active=prefix.active[:, last],
        mixture=None,
    )


def test_gradients_reach_every_key_and_value(tiny, trained, queries):
    loss(tiny, queries, trained).backward()
    for tensor in (trained.keys, trained.values):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().amax(dim=-1).min() > 0, "some slot, head or layer gets no gradient"
    assert all(parameter.grad is None for parameter in tiny.model.parameters()), "the model is frozen"


@pytest.mark.parametrize("name", ["keys", "values"])
def test_gradients_equal_finite_differences(tiny, trained, queries, name):
    """Along the gradient itself, where the slope is its norm: fp32 leaves about three digits of a difference."""
    loss(tiny, queries, trained).backward()
    tensor = getattr(trained, name)
    slope = tensor.grad.norm()
    step = 1e-2 * tensor.grad / slope
    with torch.no_grad():
        ahead = loss(tiny, queries, replace(trained, **{name: tensor + step}))
        behind = loss(tiny, queries, replace(trained, **{name: tensor - step}))
    assert ((ahead - behind) / 2e-2).item() == pytest.approx(slope.item(), rel=0.03)


def test_slots_switched_off_get_no_gradient(tiny, trained, queries):
    loss(tiny, queries, trained.without([2])).backward()
    assert trained.keys.grad[:, :, 2].abs().max() == trained.values.grad[:, :, 2].abs().max() == 0
    assert trained.keys.grad[:, :, 3].abs().max() > 0
