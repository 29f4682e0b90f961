"""A state behind a plain transformers model: the engine's logits and the engine's continuations."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from cedkv.errors import ModelError, StateError
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
    cache = to_cache(state, model, batch=3)
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
    gaps = replace(state_of("gemma3_text"), positions=torch.tensor([0, 1, 2, 3, 4, 5, 6, 30]), query_start=31)
    with pytest.raises(StateError, match="leave gaps"):
        to_cache(gaps, plain_model("gemma3_text"))


GENERATIONS = {
    "greedy": {"do_sample": False},
    "beams": {"num_beams": 3, "do_sample": False},
    "several beams returned": {"num_beams": 4, "num_return_sequences": 2, "do_sample": False},
    "several samples": {"num_return_sequences": 3, "do_sample": True, "temperature": 0.7},
    "beams that are sampled": {"num_beams": 2, "num_return_sequences": 2, "do_sample": True},
}


def new_tokens(model, inputs, **options) -> torch.Tensor:
    torch.manual_seed(0)
    out = model.generate(**inputs, max_new_tokens=5, pad_token_id=1, **options)
    return out[:, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize("options", GENERATIONS.values(), ids=GENERATIONS)
@torch.no_grad()
def test_every_way_to_generate_says_what_it_says_behind_the_demonstrations(architecture, options):
    """Behind all slots of the block, `generate` is what it is behind the block's own text."""
    lm, model = tiny_lm(architecture), plain_model(architecture)
    tokens = text_tokens(lm)
    state = read_demo_kv(lm, tokens).as_prefix()
    query = lm.encode(QUERY_TEXTS[0])
    prompt = torch.tensor([[*tokens.ids, *query]])
    whole = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
    assert new_tokens(model, generate_inputs(state, model, [query]), **options).equal(
        new_tokens(model, whole, **options)
    )


@torch.no_grad()
def test_beams_of_a_batch_are_as_each_query_alone(architecture):
    lm, model, state = tiny_lm(architecture), plain_model(architecture), state_of(architecture)
    queries = [lm.encode(text)[:4] for text in QUERY_TEXTS[:2]]
    together = new_tokens(model, generate_inputs(state, model, queries), num_beams=3, do_sample=False)
    for row, query in zip(together, queries, strict=True):
        alone = new_tokens(model, generate_inputs(state, model, [query]), num_beams=3, do_sample=False)[0]
        assert row[: len(alone)].equal(alone[: len(row)])


@pytest.mark.parametrize("query", ["Q: rain\nA:", "7"], ids=["several tokens", "one token"])
@pytest.mark.parametrize("misuse", ["no cache", "used cache", "used behind a forward"])
@torch.no_grad()
def test_what_would_read_behind_other_tokens_is_refused_by_name(architecture, query, misuse):
    model, state = plain_model(architecture), state_of(architecture)
    inputs = generate_inputs(state, model, [tiny_lm(architecture).encode(query)])
    options = {"use_cache": False} if misuse == "no cache" else {}
    if misuse == "used cache":
        new_tokens(model, inputs)
    if misuse == "used behind a forward":
        model(**inputs)
    with pytest.raises(StateError, match="the cache of the state has been used.*use_cache=True"):
        new_tokens(model, inputs, do_sample=False, **options)


def test_a_cache_is_for_as_many_queries_as_it_was_made_for():
    model, state = plain_model("llama"), state_of("llama")
    with pytest.raises(StateError, match="for 2 queries, not 3"):
        model(torch.tensor([[5, 6]] * 3), past_key_values=to_cache(state, model, batch=2))


def test_a_model_that_was_loaded_from_nowhere_is_refused():
    model = AutoModelForCausalLM.from_config(LlamaConfig(num_hidden_layers=1, hidden_size=32, intermediate_size=32))
    with pytest.raises(ModelError, match="does not say where it was loaded from"):
        to_cache(state_of("llama"), model)


# Ways to generate that read several tokens at a time behind the query, or bring a cache of their own.
OTHER_WAYS = {
    "static cache": lambda model: {"cache_implementation": "static"},
    "prompt lookup": lambda model: {"prompt_lookup_num_tokens": 2},
    "assistant": lambda model: {"assistant_model": model},
    "chunked prefill": lambda model: {"prefill_chunk_size": 3},
}


@pytest.mark.parametrize("way", OTHER_WAYS.values(), ids=OTHER_WAYS)
@torch.no_grad()
def test_other_ways_to_generate_are_right_or_refused_by_name(architecture, way):
    lm, model, state = tiny_lm(architecture), plain_model(architecture), state_of(architecture)
    query = lm.encode(QUERY_TEXTS[0] * 2)  # a text that repeats itself, so that a lookup finds something
    expected = new_tokens(model, generate_inputs(state, model, [query]), do_sample=False)
    try:
        given = new_tokens(model, generate_inputs(state, model, [query]), do_sample=False, **way(model))
    except (StateError, ValueError) as refusal:
        assert re.search("the cache of the state has been used|Passing both `cache_implementation`", str(refusal))
    else:
        assert given.equal(expected)


@torch.no_grad()
def test_a_chat_is_a_query_like_any_other(architecture):
    lm, model, state = tiny_lm(architecture), plain_model(architecture), state_of(architecture)
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    query = tokenizer.apply_chat_template([{"role": "user", "content": "rain"}], return_dict=True)["input_ids"]
    assert tokenizer.decode(query) == "user: rain\nassistant:"
    given = new_tokens(model, generate_inputs(state, model, [query]), do_sample=False)[0].tolist()
    assert lm.decode([i for i in given if i not in lm.stop_ids]) == generate(lm, [query], state, 5)[0]
