"""`null_pad` fills up to `prefix_len` with slots that do nothing; `shrink_to_selected` adds none."""

from dataclasses import replace

import pytest
import torch

from cedkv.lm import log_probs
from cedkv.methods import extract
from cedkv.state import KVPrefix, pad_with_null_slots
from tests.tolerance import FORWARD

PREFIX_LEN = 20
CHOSEN = 9  # two spans of four and the attention sink


@pytest.fixture
def selected(bench_with):
    """The state for a padding mode, and the ON queries to ask it."""

    def make(padding_mode: str) -> tuple[KVPrefix, list, object]:
        few = ["phase2.select.span_len=4", "phase2.select.span_budget=2"]
        bench = bench_with(f"phase2.prefix.padding_mode={padding_mode}", "phase2.select.min_span_distance=8", *few)
        prefix = extract(bench.lm, bench.episode, "select", PREFIX_LEN, bench.config).prefix
        return prefix, [query.ids for query in bench.episode.on_eval], bench.lm

    return make


def test_null_pad_has_the_asked_size_and_shrink_only_what_was_selected(selected):
    padded, _, _ = selected("null_pad")
    shrunk, _, _ = selected("shrink_to_selected")
    assert (padded.slots, shrunk.slots) == (PREFIX_LEN, CHOSEN)
    assert padded.query_start == shrunk.query_start == CHOSEN
    assert torch.equal(padded.keys[:, :, :CHOSEN], shrunk.keys)


def test_null_slots_are_switched_off_in_every_layer_and_made_of_no_token(selected):
    padded, _, _ = selected("null_pad")
    assert padded.active[:, :CHOSEN].all()
    assert not padded.active[:, CHOSEN:].any()
    assert padded.mixture.weights[:, :, :CHOSEN].sum(-1).eq(1).all()
    assert padded.mixture.weights[:, :, CHOSEN:].eq(0).all()


def test_null_slots_change_no_answer(selected):
    padded, queries, lm = selected("null_pad")
    shrunk, _, _ = selected("shrink_to_selected")
    torch.testing.assert_close(log_probs(lm, queries, padded), log_probs(lm, queries, shrunk), **FORWARD)


def test_what_a_null_slot_holds_does_not_matter(selected):
    padded, queries, lm = selected("null_pad")
    keys, values = padded.keys.clone(), padded.values.clone()
    keys[:, :, CHOSEN:], values[:, :, CHOSEN:] = 7.0, -50.0
    filled = replace(padded, keys=keys, values=values)
    assert torch.equal(log_probs(lm, queries, padded), log_probs(lm, queries, filled))


def test_zeros_that_are_not_masked_are_no_null_slots(selected):
    """The mistake this padding avoids: an all-zero key still takes attention."""
    padded, queries, lm = selected("null_pad")
    unmasked = padded.with_active(torch.ones_like(padded.active))
    assert (log_probs(lm, queries, padded) - log_probs(lm, queries, unmasked)).abs().max() > 0.1


def test_a_prefix_of_nothing_but_null_slots_is_the_base(selected):
    padded, queries, lm = selected("null_pad")
    null = pad_with_null_slots(padded.without(list(range(PREFIX_LEN))), PREFIX_LEN + 4)
    torch.testing.assert_close(log_probs(lm, queries, null), log_probs(lm, queries), **FORWARD)
