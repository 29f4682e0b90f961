"""What a request must say to be served a state, and what a client helper makes it say."""

from dataclasses import replace

import pytest

from cedkv.serve.vllm_connector.client import Handle
from cedkv.serve.vllm_connector.engine import check_settings
from cedkv.serve.vllm_connector.errors import Refused
from cedkv.serve.vllm_connector.request import Asked, state_for
from cedkv.serve.vllm_connector.supported import check_config
from tests.tiny import plain_model, tiny_lm

QUERY = [40, 41, 42]


@pytest.fixture
def handle(states) -> Handle:
    return Handle.load(states.folder / "past.json")


@pytest.fixture
def good(handle) -> Asked:
    prompt, extra = handle.offline(QUERY)
    return Asked(extra["kv_transfer_params"], prompt["cache_salt"], prompt["prompt_token_ids"])


def test_what_the_helper_builds_is_served(states, handle, good):
    assert state_for(good, states) is states.get("past")
    sent = handle.completion(QUERY)
    extra = sent["extra_body"]
    assert Asked(extra["kv_transfer_params"], extra["cache_salt"], sent["prompt"]) == good
    assert sent["prompt"] == [handle.placeholder] * 8 + QUERY


def test_the_placeholder_is_a_token_of_the_models_that_no_text_starts_with(handle):
    lm = tiny_lm("llama")
    assert handle.placeholder in lm.tokenizer.all_special_ids


def test_the_helper_wants_a_query(handle):
    with pytest.raises(ValueError, match="must have tokens"):
        handle.prompt([])
    with pytest.raises(ValueError, match="not start with"):
        handle.prompt([handle.placeholder, 5])


def test_a_file_that_is_no_handle_is_refused(states):
    with pytest.raises(ValueError, match="no handle of a state"):
        Handle.load(states.folder / "model.json")


@pytest.mark.parametrize("parameters", [None, {}, {"do_remote_prefill": True}])
@pytest.mark.parametrize("salt", [None, "someone's own"])
def test_a_plain_request_is_none_of_our_business(states, parameters, salt):
    assert state_for(Asked(parameters, salt, QUERY, reads_prompt=True, other="an adapter (LoRA)"), states) is None


WRONG = {
    "no salt": (lambda asked: replace(asked, salt=None), "needs its own cache_salt"),
    "another salt": (lambda asked: replace(asked, salt="cedkv-" + "0" * 64), "needs its own cache_salt"),
    "the salt alone": (lambda asked: replace(asked, parameters=None), "is a state's, and the request names no"),
    "missing": (lambda asked: replace(asked, parameters={"cedkv_state": "future"}), "there is no state 'future'"),
    "a path": (lambda asked: replace(asked, parameters={"cedkv_state": "../past"}), "is no name"),
    "one short": (lambda asked: replace(asked, prompt=asked.prompt[1:]), "8 slots, the prompt starts with 7"),
    "one more": (lambda asked: replace(asked, prompt=[*asked.prompt[:1], *asked.prompt]), "starts with 9"),
    "none": (lambda asked: replace(asked, prompt=QUERY), "starts with 0"),
    "something before": (lambda asked: replace(asked, prompt=[5, *asked.prompt]), "starts with 0"),
    "no query": (lambda asked: replace(asked, prompt=asked.prompt[:8]), "put a query behind them"),
    "one token": (lambda asked: replace(asked, prompt=asked.prompt[:1]), "starts with 1"),
    "prompt read": (lambda asked: replace(asked, reads_prompt=True), "prompt_logprobs, and echo"),
    "embeddings": (lambda asked: replace(asked, prompt=None), "embeddings cannot go with a state"),
    "adapter": (lambda asked: replace(asked, other="an adapter (LoRA)"), "LoRA. cannot go with a state"),
}


@pytest.mark.parametrize(("spoil", "message"), WRONG.values(), ids=WRONG)
def test_what_would_be_answered_wrongly_is_refused(states, good, spoil, message):
    with pytest.raises(Refused, match=message) as refused:
        state_for(spoil(good), states)
    assert "\n" not in str(refused.value)


SETTINGS = {
    "hf_overrides": None,
    "quantization": None,
    "load_format": "auto",
    "kv_cache_dtype": "auto",
    "speculative_config": None,
    "decode_context_parallel_size": 1,
    "prefill_context_parallel_size": 1,
    "kv_load_failure_policy": "fail",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hf_overrides", {"rope_theta": 1}),
        ("quantization", "fp8"),
        ("load_format", "dummy"),
        ("kv_cache_dtype", "fp8"),
        ("speculative_config", object()),
        ("decode_context_parallel_size", 2),
        ("prefill_context_parallel_size", 2),
        ("kv_load_failure_policy", "recompute"),
    ],
)
def test_an_engine_that_would_answer_wrongly_does_not_start(name, value):
    check_settings(SETTINGS)
    with pytest.raises(Refused, match=f"{name} is "):
        check_settings(SETTINGS | {name: value})


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_served_architectures(architecture):
    check_config(plain_model(architecture).config.to_dict())


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("mistral", r"sliding window \(24 tokens\)"),
        ("gemma3_text", "architecture 'gemma3_text' is not served"),
        ("smollm3", "architecture 'smollm3' is not served"),
    ],
)
def test_other_architectures_are_refused_by_name(architecture, message):
    with pytest.raises(Refused, match=message):
        check_config(plain_model(architecture).config.to_dict())


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic' is not served"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "'longrope' is not served"),
        ({"rope_parameters": {"rope_type": "default", "mrope_section": [1, 2]}}, "is not served"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "a part of each key"),
    ],
)
def test_rotations_that_know_more_than_distance_are_refused(rope, message):
    check_config({"model_type": "llama", "rope_scaling": None})
    check_config({"model_type": "mistral", "sliding_window": None})
    check_config({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False})
    with pytest.raises(Refused, match=message):
        check_config({"model_type": "llama", **rope})
