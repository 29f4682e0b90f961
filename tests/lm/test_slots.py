"""What switching slots off means: as if they were not there, in every layer or in some."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cedkv.lm import log_probs, read_attention
from cedkv.state import KVPrefix, pad_with_null_slots
from tests.tiny import LAYERS
from tests.tolerance import FORWARD


@pytest.fixture
def prefix(demo_kv) -> KVPrefix:
    return demo_kv.as_prefix()


def only(prefix: KVPrefix, slots: list[int]) -> KVPrefix:
    """A prefix that really has only these slots, at the positions they had."""
    return replace(
        prefix,
        keys=prefix.keys[:, :, slots],
        values=prefix.values[:, :, slots],
        positions=prefix.positions[slots],
        active=prefix.active[:, slots],
        mixture=None,
    )


def test_null_slots_alone_are_the_base(tiny, prefix, queries):
    """The base starts with the tokenizer's own bos token; behind a prefix nothing is put in front of a query."""
    null = prefix.without(list(range(prefix.slots)))
    assert_close(log_probs(tiny, [[*tiny.bos, *query] for query in queries], null), log_probs(tiny, queries), **FORWARD)


def test_padding_changes_nothing(tiny, prefix, queries):
    padded = pad_with_null_slots(prefix, prefix.slots + 7)
    assert_close(log_probs(tiny, queries, padded), log_probs(tiny, queries, prefix), **FORWARD)


def test_all_zero_slots_are_not_null_slots(tiny, prefix, queries):
    """The broken variant: a zero key is not masked, takes attention and takes it away from the others."""
    padded = pad_with_null_slots(prefix, prefix.slots + 7)
    broken = padded.with_active(torch.ones_like(padded.active))
    assert (log_probs(tiny, queries, broken) - log_probs(tiny, queries, padded)).abs().max() > 0.1


def test_without_slots_equals_a_prefix_that_lacks_them(tiny, prefix, queries):
    off = [0, 3, prefix.slots - 2]
    lacking = only(prefix, [slot for slot in range(prefix.slots) if slot not in off])
    without = log_probs(tiny, queries, prefix.without(off))
    assert_close(without, log_probs(tiny, queries, lacking), **FORWARD)
    assert (without - log_probs(tiny, queries, prefix)).abs().max() > 0.1


def test_slots_switched_off_get_no_attention(tiny, prefix, queries):
    off = [1, prefix.slots - 3]
    attention = read_attention(tiny, queries, prefix.without(off)).at_last_tokens()
    assert attention[..., off].max() == 0
    assert read_attention(tiny, queries, prefix).at_last_tokens()[..., off].max() > 0


def test_injection_into_all_layers_is_no_restriction(tiny, prefix, queries):
    everywhere = prefix.with_injection_layers(list(range(LAYERS)))
    assert torch.equal(log_probs(tiny, queries, everywhere), log_probs(tiny, queries, prefix))


def test_injection_into_no_layer_is_the_base(tiny, prefix, queries):
    nowhere = prefix.with_injection_layers([])
    with_bos = [[*tiny.bos, *query] for query in queries]
    assert_close(log_probs(tiny, with_bos, nowhere), log_probs(tiny, queries), **FORWARD)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_injection_into_one_layer_is_neither_all_nor_nothing(tiny, prefix, queries, layer):
    one = prefix.with_injection_layers([layer])
    answers = log_probs(tiny, queries, one)
    for other in (prefix, prefix.with_injection_layers([])):
        assert (answers - log_probs(tiny, queries, other)).abs().max() > 0.05
    attention = read_attention(tiny, queries, one).at_last_tokens()
    assert [float(attention[index].max()) > 0 for index in range(LAYERS)] == [i == layer for i in range(LAYERS)]


def test_layers_may_see_different_slots(tiny, prefix, queries):
    half = torch.arange(prefix.slots) < prefix.slots // 2
    active = torch.stack([half, ~half] * (LAYERS // 2))
    attention = read_attention(tiny, queries, prefix.with_active(active)).at_last_tokens()
    assert attention.amax(dim=(1, 2))[~active].max() == 0
    assert (log_probs(tiny, queries, prefix.with_active(active)) - log_probs(tiny, queries, prefix)).abs().max() > 0.05


def test_scaling_a_slot_to_nothing_keeps_its_attention(tiny, prefix, queries):
    slot = prefix.slots - 1
    silenced = prefix.scaled(slot, 0.0)
    assert_close(
        read_attention(tiny, queries, silenced).at_last_tokens()[0, ..., slot],
        read_attention(tiny, queries, prefix).at_last_tokens()[0, ..., slot],
        **FORWARD,
    )
    assert (log_probs(tiny, queries, silenced) - log_probs(tiny, queries, prefix.without([slot]))).abs().max() > 0.01
