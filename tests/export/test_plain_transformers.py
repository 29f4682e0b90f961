"""A state behind a plain transformers model: the engine's logits and the engine's continuations."""

from dataclasses import replace

import pytest
import torch

from cedkv.errors import StateError
from cedkv.lm import generate, log_probs, read_demo_kv
from cedkv.lm.export import generate_inputs, to_cache
from cedkv.state import KVPrefix, pad_with_null_slots, slot_layout
from tests.tiny import QUERY_TEXTS, plain_model, text_tokens, tiny_lm
from tests.tolerance import forward

ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral", "gemma3_text")
TOLERANCE = forward()


def state_of(architecture: str, positioning: str = "compact", slots: int = 8) -> KVPrefix:
    lm = tiny_lm(architecture)
    tokens = text_tokens(lm)
    whole = read_demo_kv(lm, tokens)
    positions, start = slot_layout(slots, len(tokens), positioning)
    active = torch.ones(lm.layers, slots, dtype=torch.bool)
    return KVPrefix(whole.keys[:, :, :slots], whole.values[:, :, :slots], positions, start, active, lm.fingerprint)


@pytest.fixture(params=ARCHITECTURES)
def architecture(request) -> str:
    return request.param


@pytest.mark.parametrize("positioning", ["compact", "absolute"])
@torch.no_grad()
def test_logits_are_the_engines(architecture, positioning):
    lm, model, state = tiny_lm(architecture), plain_model(architecture), state_of(architecture, positioning)
    for text in QUERY_TEXTS:
        ids = lm.encode(text)
        plain = model(**generate_inputs(state, model, [ids])).logits[0, -1].log_softmax(-1)
        assert torch.allclose(plain, log_probs(lm, [ids], state)[0], atol=TOLERANCE), text


@torch.no_grad()
def test_generate_says_what_the_engine_says(architecture):
    lm, model, state = tiny_lm(architecture), plain_model(architecture), state_of(architecture)
    for text in QUERY_TEXTS[:2]:
        inputs = generate_inputs(state, model, [lm.encode(text)])
        given = inputs["input_ids"].shape[1]
        out = model.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=0)
        ids = [token for token in out[0, given:].tolist() if token not in lm.stop_ids]
        assert lm.decode(ids) == generate(lm, [lm.encode(text)], state, 6)[0]


@torch.no_grad()
def test_a_batch_of_unequal_queries_is_as_each_alone():
    lm, model, state = tiny_lm("llama"), plain_model("llama"), state_of("llama")
    queries = [lm.encode(text) for text in QUERY_TEXTS]
    rows = model(**generate_inputs(state, model, queries)).logits[:, -1].log_softmax(-1)
    assert torch.allclose(rows, log_probs(lm, queries, state), atol=TOLERANCE)
    out = model.generate(**generate_inputs(state, model, queries), max_new_tokens=5, do_sample=False, pad_token_id=1)
    texts = [lm.decode([i for i in row if i not in lm.stop_ids]) for row in out[:, -5:].tolist()]
    assert texts == generate(lm, queries, state, 5)


def test_using_a_cache_leaves_the_state_alone():
    model, state = plain_model("llama"), state_of("llama")
    before = state.keys.clone()
    cache = state.to_cache(model, batch=3)
    assert cache.layers[0].keys.shape == (3, 2, 8, 16)
    model(torch.tensor([[5, 6]] * 3), past_key_values=cache)
    assert cache.get_seq_length() == 10
    assert torch.equal(state.keys, before)
    assert to_cache(state, model).get_seq_length() == 8


@torch.no_grad()
def test_null_slots_are_left_out():
    lm, model, state = tiny_lm("llama"), plain_model("llama"), state_of("llama")
    padded = pad_with_null_slots(state, 12)
    inputs = generate_inputs(padded, model, [lm.encode(QUERY_TEXTS[0])])
    assert inputs["past_key_values"].get_seq_length() == 8
    expected = log_probs(lm, [lm.encode(QUERY_TEXTS[0])], padded)[0]
    assert torch.allclose(model(**inputs).logits[0, -1].log_softmax(-1), expected, atol=TOLERANCE)


def test_what_a_plain_cache_cannot_say_is_refused():
    model, state = plain_model("llama"), state_of("llama")
    with pytest.raises(StateError, match="slot 0 is switched on in some layers only"):
        to_cache(state.with_injection_layers([1, 2]), model)
    with pytest.raises(StateError, match="use the model it was made for"):
        to_cache(replace(state, keys=state.keys[:2], values=state.values[:2], active=state.active[:2]), model)
    gaps = replace(state_of("gemma3_text"), positions=torch.tensor([0, 1, 2, 3, 4, 5, 6, 30]), query_start=31)
    with pytest.raises(StateError, match="leave gaps"):
        to_cache(gaps, plain_model("gemma3_text"))
