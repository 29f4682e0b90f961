"""The yardsticks: what a prefix does that says nothing, as the model itself does it."""

import pytest
import torch

from cedkv.harm import yardsticks
from cedkv.harm.yardsticks import plain_prefix
from cedkv.metrics import kl
from cedkv.probe import OffProbe
from tests.tiny import QUERY_TEXTS, plain_log_probs, tiny_lm
from tests.tolerance import FORWARD, forward


def test_a_yardsticks_delta_is_that_of_its_text_in_the_prompt():
    lm = tiny_lm("llama")
    probe = OffProbe(lm, QUERY_TEXTS)
    for name, prefix in yardsticks(lm, 20).items():
        front = prefix.mixture.tokens.ids
        by_hand = [
            kl(plain_log_probs("llama", [*front, *lm.encode(text)]), plain_log_probs("llama", lm.encode(text)))
            for text in QUERY_TEXTS
        ]
        torch.testing.assert_close(probe.delta(prefix), torch.stack(by_hand), **FORWARD, msg=name)


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_the_paragraph_is_as_long_as_the_demonstrations(architecture):
    lm = tiny_lm(architecture)
    sticks = yardsticks(lm, 33)
    assert sticks["neutral_paragraph"].slots == 33
    assert sticks["neutral_token"].mixture.tokens.ids == (*lm.bos, lm.encode("\n")[-1])


def test_the_paragraph_goes_on_as_long_as_it_must():
    lm = tiny_lm("llama")
    text = yardsticks(lm, 60)["neutral_paragraph"].mixture.tokens.texts
    assert "".join(text) == lm.decode(lm.encode("".join(text)))


def test_what_the_tokenizer_puts_in_front_by_itself_costs_nothing():
    lm = tiny_lm("gemma3_text")
    assert lm.bos
    sink = plain_prefix(lm, [])
    assert sink.slots == len(lm.bos)
    assert OffProbe(lm, QUERY_TEXTS).delta(sink).abs().max() < forward()
