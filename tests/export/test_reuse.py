"""One state, used again and again: the n-th answer is a fresh one's, nothing grows, nothing changes."""

import gc
from dataclasses import replace

import pytest
import torch

from cedkv.errors import StateError
from cedkv.lm import generate, log_probs, read_queries, stream_tokens
from cedkv.metrics import kl
from cedkv.state import KVPrefix
from cedkv.state.compose import compose
from tests.export.test_plain_transformers import state_of
from tests.tiny import QUERY_TEXTS, tiny_lm
from tests.tolerance import FORWARD, forward


def frozen(state: KVPrefix) -> list[bytes]:
    return [t.numpy().tobytes() for t in (state.keys, state.values, state.positions, state.active)]


def living_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text"])
def test_hundreds_of_queries_neither_drift_nor_grow(architecture):
    lm, state = tiny_lm(architecture), state_of(architecture)
    queries = [lm.encode(text) for text in QUERY_TEXTS]
    before, fresh = frozen(state), log_probs(lm, queries[:1], state)
    log_probs(lm, queries, state)
    living = living_tensors()
    for turn in range(200):
        log_probs(lm, [queries[turn % len(queries)]], state)
    assert living_tensors() <= living + 2
    assert torch.equal(log_probs(lm, queries[:1], state), fresh)
    assert frozen(state) == before


def test_batches_answer_as_single_queries_do():
    lm, state = tiny_lm("llama"), state_of("llama")
    queries = [lm.encode(text) for text in QUERY_TEXTS] * 60
    together = log_probs(lm, queries, state)
    alone = log_probs(lm, queries[:1], state)[0]
    assert kl(alone, together[0]).item() < forward()
    assert kl(together[:4].repeat(60, 1), together).max().item() < forward()


def test_a_long_generation_is_what_a_fresh_prompt_would_continue():
    """The 100th token comes from the same distribution as if all tokens before it had been the query."""
    lm, state = tiny_lm("llama"), state_of("llama")
    lm = replace(lm)
    object.__setattr__(lm, "stop_ids", frozenset())
    query, before = lm.encode(QUERY_TEXTS[0]), frozen(state)
    *_, (tokens,) = stream_tokens(lm, read_queries(lm, [query], state), 100)
    assert len(tokens) == 100
    reads = log_probs(lm, [[*query, *tokens[:-1]]], state, [100])
    chosen = reads.gather(1, torch.tensor(tokens)[:, None])[:, 0]
    assert (reads.max(-1).values - chosen).max().item() < forward()
    assert frozen(state) == before


def test_turns_of_a_conversation_do_not_touch_each_other():
    lm, state = tiny_lm("gemma3_text"), state_of("gemma3_text")
    said = lm.encode(QUERY_TEXTS[0])
    first = generate(lm, [said], state, 8)
    for turn in range(4):
        said = [*said, *lm.encode(f"A {turn}\nQ: play\nA:")]
        generate(lm, [said], state, 8)
    assert generate(lm, [lm.encode(QUERY_TEXTS[0])], state, 8) == first


def test_composing_lays_the_slots_one_after_the_other():
    one, two = state_of("llama", slots=3), state_of("llama", "absolute", slots=5)
    both = compose(one, two.without([1]))
    assert (both.slots, both.query_start) == (8, 8)
    assert both.positions.tolist() == list(range(8))
    assert torch.equal(both.keys[:, :, 3:], two.keys)
    assert both.active[0].tolist() == [True] * 4 + [False] + [True] * 3
    assert both.mixture is None


def test_composing_with_switched_off_slots_is_the_state_alone():
    lm, one = tiny_lm("llama"), state_of("llama", slots=8)
    nothing = one.without(list(range(8)))
    queries = [lm.encode(text) for text in QUERY_TEXTS]
    both = replace(compose(one, nothing), query_start=8, positions=torch.arange(8).repeat(2))
    assert torch.allclose(log_probs(lm, queries, both), log_probs(lm, queries, one), **FORWARD)


def test_states_of_two_models_are_not_composed():
    with pytest.raises(StateError, match="cannot be composed"):
        compose(state_of("llama"), replace(state_of("llama"), fingerprint="other"))
