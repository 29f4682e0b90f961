"""The OFF probe: `Delta` as it is defined, the base read once, and no answer that is no number."""

import pytest
import torch

import cedkv.probe
from cedkv.errors import NonFiniteError
from cedkv.lm import log_probs, read_demo_kv
from cedkv.probe import OffProbe
from tests.tiny import QUERY_TEXTS, text_tokens, tiny_lm
from tests.tolerance import FORWARD


def test_delta_is_the_divergence_of_the_student_from_the_base():
    lm = tiny_lm("llama")
    prefix = read_demo_kv(lm, text_tokens(lm)).as_prefix()
    by_hand = []
    for text in QUERY_TEXTS:
        student, base = (log_probs(lm, [lm.encode(text)], view)[0] for view in (prefix, None))
        by_hand.append((student.exp() * (student - base)).sum())
    probe = OffProbe(lm, QUERY_TEXTS)
    torch.testing.assert_close(probe.delta(prefix), torch.stack(by_hand), **FORWARD)
    assert probe.delta(None).tolist() == [0.0] * len(QUERY_TEXTS)


def test_the_base_is_read_once(monkeypatch):
    lm, read = tiny_lm("llama"), []
    monkeypatch.setattr(cedkv.probe, "log_probs", lambda *arguments: read.append(1) or log_probs(*arguments))
    probe = OffProbe(lm, QUERY_TEXTS)
    prefix = read_demo_kv(lm, text_tokens(lm)).as_prefix()
    probe.delta(prefix)
    probe.delta(prefix.without([3]))
    monkeypatch.setattr(cedkv.probe, "delta_of", None)  # the base's own needs no further one
    probe.delta(None)
    assert read == [1]


def test_an_answer_that_is_no_number_names_the_texts_and_the_remedy():
    lm = tiny_lm("llama")
    prefix = read_demo_kv(lm, text_tokens(lm)).as_prefix()
    broken = prefix.with_tensors(prefix.keys, prefix.values * float("inf"))
    with pytest.raises(NonFiniteError, match="Delta on the stress eval is not finite; use float32"):
        OffProbe(lm, QUERY_TEXTS, "stress eval", "use float32").delta(broken)
