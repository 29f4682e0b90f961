"""Why this answer: ablations in one pack are those of a forward each, and the attention is the one that happened."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cedkv.lm import log_probs, read_attention, read_demo_kv
from cedkv.metrics import kl
from cedkv.session.why import why_answer, why_text
from cedkv.state import KVPrefix, Mixture, pad_with_null_slots
from tests.tiny import LAYERS, text_tokens, tiny_lm

QUERY, ANSWER, TEXT = "Q: rain\nA:", " rained\n", "once upon a time there was a tall king"
SLOTS = [0, 7, 12, 20]


@pytest.fixture(scope="module")
def lm():
    return tiny_lm("llama")


@pytest.fixture(scope="module")
def prefix(lm) -> KVPrefix:
    """Four copied tokens, the first of them the text's, and a null slot."""
    whole = read_demo_kv(lm, text_tokens(lm)).as_prefix()
    copied = replace(
        whole,
        keys=whole.keys[:, :, SLOTS], values=whole.values[:, :, SLOTS], positions=torch.arange(4), query_start=4,
        active=whole.active[:, SLOTS],
        mixture=Mixture(whole.mixture.weights[:, :, SLOTS], whole.mixture.tokens),
    )  # fmt: skip
    return pad_with_null_slots(copied, 5)


@pytest.fixture(scope="module")
def answered(lm, prefix):
    return why_answer(lm, lm.encode(QUERY), lm.encode(ANSWER), prefix)


def test_each_ablation_of_an_answer_is_that_of_a_forward_of_its_own(lm, prefix, answered):
    query, answer = lm.encode(QUERY), lm.encode(ANSWER)
    assert answered.tokens == tuple(lm.decode([token]) for token in answer) and len(answer) > 1
    for token, said in enumerate(answer):
        whole, *ablated = (
            log_probs(lm, [[*query, *answer[:token]]], state)[0, said].item()
            for state in (prefix, *(prefix.without([slot]) for slot in range(5)))
        )
        assert answered.measured[token] == pytest.approx(whole, abs=1e-3)
        changes = [part.change for part in answered.parts(token)]
        assert changes == pytest.approx([value - whole for value in ablated], abs=2e-3)
        assert max(map(abs, changes)) > 0.01
        assert answered.strongest(token) == min(range(5), key=lambda slot: changes[slot])


def test_a_null_slot_has_no_part(answered):
    for token in range(len(answered.tokens)):
        null = answered.parts(token)[4]
        assert null.attention == 0 and null.change == pytest.approx(0, abs=1e-4)


def test_attention_is_that_of_the_position_at_which_the_token_is_read(lm, prefix, answered):
    query, answer = lm.encode(QUERY), lm.encode(ANSWER)
    for token in range(len(answer)):
        seen = read_attention(lm, [[*query, *answer[:token]]], prefix).at_last_tokens()[:, :, 0]
        for slot, part in enumerate(answered.parts(token)):
            assert_close(torch.tensor(answered.attention[token][slot]), seen[..., slot], atol=1e-4, rtol=1e-3)
            assert part.attention == pytest.approx(seen[..., slot].mean().item(), abs=1e-4)
            layer, head, share = part.heads[0]
            assert share == pytest.approx(seen[..., slot].max().item(), abs=1e-4)
            assert answered.attention[token][slot][layer][head] == share
    assert len(answered.attention[0][0]) == LAYERS


def test_free_slots_have_no_tokens_behind_them(lm, prefix, answered):
    assert answered.slots.texts == prefix.mixture.tokens.texts and answered.slots.weights[1][SLOTS[1]] == 1
    free = why_answer(lm, lm.encode(QUERY), lm.encode(ANSWER), replace(prefix, mixture=None))
    assert free.slots is None and free.measured == pytest.approx(answered.measured, abs=1e-3)


def test_a_text_is_measured_by_what_the_state_does_behind_every_token(lm, prefix):
    ids = lm.encode(TEXT)
    why = why_text(lm, ids, prefix)
    for place in range(len(ids)):
        base = log_probs(lm, [ids[: place + 1]])
        delta, *without = (
            kl(log_probs(lm, [ids[: place + 1]], state), base).item()
            for state in (prefix, *(prefix.without([slot]) for slot in range(5)))
        )
        assert why.measured[place] == pytest.approx(delta, abs=2e-3)
        changes = [part.change for part in why.parts(place)]
        assert changes == pytest.approx([value - delta for value in without], abs=4e-3)
    # Not the first: with nothing in front of it, anything changes what a text begins with.
    assert why.first == max(range(1, len(ids)), key=lambda place: why.measured[place])


def test_a_text_of_several_packs_is_the_same_as_in_one(lm, prefix, monkeypatch):
    ids = lm.encode(TEXT)
    whole = why_text(lm, ids, prefix)
    monkeypatch.setattr("cedkv.lm.forward.pack_slices.__defaults__", (len(ids) * 2,))
    parted = why_text(lm, ids, prefix)
    assert_close(torch.tensor(parted.without), torch.tensor(whole.without), atol=1e-3, rtol=1e-3)


def test_of_a_long_text_only_its_beginning_is_explained(lm, prefix):
    ids = lm.encode(TEXT * 20)
    why = why_text(lm, ids, prefix)
    assert len(why.tokens) == 128 < why.cut == len(ids) and why_text(lm, ids[:20], prefix).cut == 0
