"""The state as plain data: what its operations make of hand-written numbers. No model is needed."""

from dataclasses import replace

import pytest
import torch

from cedkv.state import DemoKV, DemoTokens, KVPrefix, Mixture, pad_with_null_slots, slot_layout

LAYERS, HEADS, DIM = 3, 2, 4
TOKENS = DemoTokens(
    ids=(0, 5, 6, 7, 8, 9),
    texts=("<bos>", "lift", " ->", " lifted", "walk", " walked"),
    roles=("delimiter", "input", "delimiter", "output", "input", "output"),
    demo=(-1, 0, 0, 0, 1, 1),
)


def numbers(*shape: int) -> torch.Tensor:
    return torch.arange(1.0, 1.0 + torch.Size(shape).numel()).reshape(shape)


@pytest.fixture
def demo_kv() -> DemoKV:
    shape = (LAYERS, HEADS, len(TOKENS), DIM)
    return DemoKV(numbers(*shape), -numbers(*shape), TOKENS, "print")


@pytest.fixture
def prefix(demo_kv) -> KVPrefix:
    return demo_kv.as_prefix()


def changed(prefix: KVPrefix, other: KVPrefix) -> set[str]:
    """Names of the fields in which two prefixes differ."""
    return {
        name
        for name, value in vars(prefix).items()
        if not (
            torch.equal(value, getattr(other, name))
            if isinstance(value, torch.Tensor)
            else value == getattr(other, name)
        )
    }


def test_demo_spans_are_the_demonstrations():
    assert TOKENS.demo_spans() == [(1, 4), (4, 6)]
    assert len(TOKENS) == 6


def test_taking_tokens_keeps_their_order_and_columns():
    taken = TOKENS.take([4, 0, 3])
    assert taken == DemoTokens((8, 0, 7), ("walk", "<bos>", " lifted"), ("input", "delimiter", "output"), (1, -1, 0))
    assert len(TOKENS.take([])) == 0


def test_whole_block_as_prefix_is_one_slot_per_token(prefix, demo_kv):
    assert prefix.keys is demo_kv.keys
    assert prefix.values is demo_kv.values
    assert prefix.positions.tolist() == [0, 1, 2, 3, 4, 5]
    assert (prefix.slots, prefix.query_start, prefix.fingerprint) == (6, 6, "print")
    assert prefix.active.shape == (LAYERS, 6)
    assert prefix.active.all()
    assert torch.equal(prefix.mixture.weights, torch.eye(6)[None, None])
    assert prefix.mixture.tokens is TOKENS


def test_bytes_are_those_of_keys_and_values(prefix):
    assert prefix.nbytes == 2 * LAYERS * HEADS * 6 * DIM * 4
    assert replace(prefix, keys=prefix.keys.half(), values=prefix.values.half()).nbytes == prefix.nbytes / 2


def test_without_switches_slots_off_everywhere_and_moves_nothing(prefix):
    off = prefix.without([1, -1])
    assert off.active.tolist() == [[True, False, True, True, True, False]] * LAYERS
    assert changed(off, prefix) == {"active"}
    assert prefix.active.all(), "the original is untouched"


def test_injection_layers_restrict_what_is_active(prefix):
    some = prefix.without([0]).with_injection_layers([0, 2])
    assert some.active.tolist() == [[False] + [True] * 5, [False] * 6, [False] + [True] * 5]
    assert changed(some, prefix) == {"active"}
    assert some.with_injection_layers([1]).active.sum() == 0, "restrictions add up"


def test_scaling_changes_the_values_of_one_slot(prefix):
    scaled = prefix.scaled(2, 0.5)
    expected = prefix.values.clone()
    expected[:, :, 2] *= 0.5
    assert torch.equal(scaled.values, expected)
    assert changed(scaled, prefix) == {"values"}


@pytest.mark.parametrize(
    ("slots", "tokens", "positioning", "positions", "query_start"),
    [
        (3, 10, "compact", [0, 1, 2], 3),
        (3, 10, "absolute", [7, 8, 9], 10),
        (10, 10, "absolute", list(range(10)), 10),
        (4, 2, "absolute", [0, 1, 2, 3], 4),
        (0, 5, "compact", [], 0),
        (0, 5, "absolute", [], 5),
    ],
)
def test_slot_layout(slots, tokens, positioning, positions, query_start):
    where, start = slot_layout(slots, tokens, positioning)
    assert (where.tolist(), start) == (positions, query_start)


def test_padding_appends_masked_slots(prefix):
    padded = pad_with_null_slots(prefix.without([0]), 8)
    assert (padded.slots, padded.query_start) == (8, 6)
    assert padded.positions.tolist() == [0, 1, 2, 3, 4, 5, 5, 5]
    assert padded.active.tolist() == [[False] + [True] * 5 + [False] * 2] * LAYERS
    assert torch.equal(padded.keys[:, :, :6], prefix.keys)
    assert torch.equal(padded.values[:, :, :6], prefix.values)
    assert padded.keys[:, :, 6:].abs().max() == padded.values[:, :, 6:].abs().max() == 0
    assert padded.mixture.weights.shape == (1, 1, 8, 6)
    assert padded.mixture.weights.sum(-1).tolist() == [[[1.0] * 6 + [0.0] * 2]]


def test_padding_to_no_more_than_there_is_changes_nothing(prefix):
    assert pad_with_null_slots(prefix, 6) is prefix
    assert pad_with_null_slots(prefix, 2) is prefix


def test_padding_without_a_mixture(prefix):
    assert pad_with_null_slots(replace(prefix, mixture=None), 8).mixture is None


def test_padding_covers_key_weights(prefix):
    eye = torch.eye(6)[None, None]
    mixture = Mixture(eye.expand(LAYERS, HEADS, -1, -1), TOKENS, key_weights=eye.flip(2))
    padded = pad_with_null_slots(replace(prefix, mixture=mixture), 9).mixture
    assert padded.weights.shape == (LAYERS, HEADS, 9, 6)
    assert padded.key_weights.shape == (1, 1, 9, 6)
    assert torch.equal(padded.key_weights[:, :, :6], mixture.key_weights)
    assert padded.key_weights[:, :, 6:].abs().max() == 0
