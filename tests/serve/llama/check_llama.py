"""llama.cpp behind states says what the project's own student says; run by `make serve-llama-test`.

The embedded GGUF file is written out in F32 first: with its 8-bit weights llama.cpp rounds activations too, and then it
is not the student's own model that answers. `CEDKV_SERVE` names the folder to work in.
"""

import os
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
import torch

from cedkv.errors import StateError
from cedkv.lm import EMBEDDED, LanguageModel, load_model
from cedkv.lm.find import embedded_file
from cedkv.serve import export_state, load_sequence
from tests.serve.vllm.expected import NEW_TOKENS, PAST, block, cases_of, states

FOLDER = Path(os.environ.get("CEDKV_SERVE", "runs/serve"))
TOLERANCE = 1e-4
GGUF = embedded_file()
COPIES = ["first-1", "first-26", "first-31", "first-32", "first-33"]
NAMES = ["ced", "select", "past", "plural", *COPIES, "absolute", "gaps-and-null"]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load_model(device="cpu")


@pytest.fixture(scope="module")
def dequantised() -> Path:
    """The embedded file in F32, by llama.cpp's own tool."""
    target = FOLDER / "f32.gguf"
    if not target.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype, options.allow_requantize = llama_cpp.LLAMA_FTYPE_ALL_F32, True
        assert llama_cpp.llama_model_quantize(str(GGUF).encode(), str(target).encode(), options) == 0
    return target


@pytest.fixture(scope="module")
def llm(dequantised) -> llama_cpp.Llama:
    return opened(dequantised)


def opened(file: Path, **options) -> llama_cpp.Llama:
    settings = {"n_ctx": 512, "n_threads": 1, "type_k": 0, "type_v": 0, "verbose": False}
    return llama_cpp.Llama(str(file), **{**settings, **options})


@pytest.fixture(scope="module")
def made(lm) -> Path:
    """All states, exported."""
    for name, prefix in states(lm):
        prefix.save(FOLDER / "made" / f"{name}.safetensors")
        export_state("llama.cpp", FOLDER / "made" / f"{name}.safetensors", FOLDER / "llama", lm, EMBEDDED)
    return FOLDER / "llama"


def says(llm: llama_cpp.Llama, lm: LanguageModel, query: list[int]) -> tuple[str, np.ndarray]:
    """Greedy text behind what the model has read, and log-probabilities of the first token."""
    stop, found, first = set(lm.stop_ids), [], None
    tokens = query
    while len(found) < NEW_TOKENS:
        llm.eval(tokens)
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llm.ctx, -1), shape=(llm.n_vocab(),)).astype("f8")
        if first is None:
            first = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        token = int(logits.argmax())
        if token in stop:
            break
        found.append(token)
        tokens = [token]
    return lm.decode(found), first


def far(first: np.ndarray, case: dict) -> float:
    return max(abs(first[int(token)] - value) for token, value in case["top"].items())


def test_plain_text_is_the_base_models(llm, lm):
    for case in cases_of(lm, None, None):
        llm.reset()
        text, first = says(llm, lm, case["query"])
        assert text == case["text"] and far(first, case) < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_behind_a_state_it_says_what_the_student_says(llm, lm, made, name):
    prefix = dict(states(lm))[name]
    worst = 0.0
    for case in cases_of(lm, name, prefix):
        load_sequence(llm, made / f"{name}.json", GGUF)
        text, first = says(llm, lm, case["query"])
        assert text == case["text"]
        assert set(np.argsort(first)[-5:].tolist()) == set(map(int, case["top"]))
        worst = max(worst, far(first, case))
    print(f"{name}: {prefix.slots} slots, worst of the five likeliest {worst:.1e}")
    assert worst < TOLERANCE


def test_a_completion_takes_the_placeholders_and_the_query(llm, lm, made):
    """As users of llama-cpp-python write it: the cells of the placeholders are there already."""
    prefix = dict(states(lm))["past"]
    case = cases_of(lm, "past", prefix)[0]
    load_sequence(llm, made / "past.json", GGUF)
    placeholders = llm.input_ids[: llm.n_tokens].tolist()
    said = llm.create_completion(placeholders + case["query"], max_tokens=NEW_TOKENS, temperature=0.0, top_k=1)
    assert said["choices"][0]["text"].startswith(case["text"])


def test_without_the_state_the_answers_are_others(llm, lm):
    """Else equality would show nothing."""
    prefix = dict(states(lm))["past"]
    for case in cases_of(lm, "past", prefix)[:3]:
        llm.reset()
        _, first = says(llm, lm, case["query"])
        assert far(first, case) > 0.1


def test_on_the_quantised_file_itself_it_answers_alike(lm, made):
    """8-bit activations: near, and how near is printed, not equal."""
    prefix = dict(states(lm))["past"]
    llm = opened(GGUF)
    cases = cases_of(lm, "past", prefix)
    distances, same = [], 0
    for case in cases:
        load_sequence(llm, made / "past.json")
        text, first = says(llm, lm, case["query"])
        distances.append(far(first, case))
        same += text == case["text"]
    print(f"quantised: {same} of {len(cases)} texts the same, worst of the five likeliest {max(distances):.2f}")
    assert max(distances) < 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type_k": 1, "type_v": 1}, "open the model with type_k=0"),
        ({"flash_attn": True}, "has flash attention"),
    ],
)
def test_a_context_that_keeps_other_numbers_is_refused(dequantised, made, options, message):
    with pytest.raises(StateError, match=message):
        load_sequence(opened(dequantised, **options), made / "past.json", GGUF)


def test_a_context_with_fewer_cells_than_slots_is_refused(dequantised, lm):
    prefix = block(lm, 5 * PAST)
    assert prefix.slots > 256
    prefix.save(FOLDER / "made" / "long.safetensors")
    handle = export_state("llama.cpp", FOLDER / "made" / "long.safetensors", FOLDER / "llama", lm, EMBEDDED)[0]
    with pytest.raises(StateError, match="the context has 256 tokens"):
        load_sequence(opened(dequantised, n_ctx=256), handle, GGUF)


def test_another_models_file_and_another_version_are_refused(llm, lm, made, dequantised):
    with pytest.raises(StateError, match="made with a model of fingerprint"):
        load_sequence(llm, made / "past.json")
    handle = made / "older.json"
    (made / "older.ggsq").write_bytes((made / "past.ggsq").read_bytes())
    handle.write_text((made / "past.json").read_text().replace('"version": 3', '"version": 2'))
    with pytest.raises(StateError, match="has version 2 of the format"):
        load_sequence(llm, handle, GGUF)
    foreign = replace(dict(states(lm))["first-1"], fingerprint="0" * 32)
    foreign.save(FOLDER / "made" / "foreign.safetensors")
    with pytest.raises(StateError, match="load the model it was made for"):
        export_state("llama.cpp", FOLDER / "made" / "foreign.safetensors", FOLDER / "llama", lm, EMBEDDED)


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield
