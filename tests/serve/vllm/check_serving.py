"""Stock vLLM serves states as the project's own student answers; run in vLLM's environment by `make serve-vllm-test`.

`CEDKV_SERVE` names the folder that `expected.py` wrote. The engine has few blocks, so requests are preempted, and its
steps run in this process, so a file can be changed between two of them.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}

from cedkv_vllm.client import Handle
from vllm import LLM, SamplingParams
from vllm.config import KVTransferConfig

FOLDER = Path(os.environ["CEDKV_SERVE"])
STATES = FOLDER / "states"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
CASES, NEW_TOKENS = EXPECTED["cases"], EXPECTED["new_tokens"]
STATEFUL = [case for case in CASES if case["state"]]
BLOCK, BLOCKS = 32, 14
TOLERANCE = 1e-4
PORT = 8731
ENGINE = {"dtype": "float32", "max_model_len": 256, "block_size": BLOCK, "enforce_eager": True, "max_num_seqs": 16}
TRANSFER = {
    "kv_connector": "StateConnector",
    "kv_connector_module_path": "cedkv_vllm.connector",
    "kv_role": "kv_consumer",
    "kv_connector_extra_config": {"states": str(STATES)},
}


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM(
        model=EXPECTED["model"],
        num_gpu_blocks_override=BLOCKS,
        kv_transfer_config=KVTransferConfig(**TRANSFER),
        disable_log_stats=False,
        **ENGINE,
    )


def asked(case: dict, **options) -> tuple[dict, SamplingParams]:
    """A case as `LLM.generate` takes it."""
    sampling = {"temperature": 0.0, "max_tokens": NEW_TOKENS, "logprobs": 5, **options}
    if not case["state"]:
        return {"prompt_token_ids": case["query"]}, SamplingParams(**sampling)
    prompt, extra = Handle.load(STATES / f"{case['state']}.json").offline(case["query"])
    return prompt, SamplingParams(**sampling, extra_args=extra)


def run(llm: LLM, requests: list[tuple[dict, SamplingParams]]) -> list:
    prompts, sampling = zip(*requests, strict=True)
    return llm.generate(list(prompts), list(sampling), use_tqdm=False)


def differences(case: dict, output) -> float:
    """The largest difference of the five log-probabilities; the text must be equal."""
    completion = output.outputs[0]
    assert completion.text == case["text"], (case["state"], case["query"])
    given = completion.logprobs[0]
    assert set(case["top"]) <= set(map(str, given)), (case["state"], case["query"])
    return max(abs(given[int(token)].logprob - value) for token, value in case["top"].items())


def check(case: dict, output) -> float:
    worst = differences(case, output)
    assert worst < TOLERANCE, (case["state"], case["query"], worst)
    return worst


def test_one_mixed_batch_says_what_the_student_says(llm):
    """All states and plain text together; prompts end before, at and behind the border of a block."""
    outputs = run(llm, [asked(case) for case in CASES])
    worst = max(check(case, output) for case, output in zip(CASES, outputs, strict=True))
    print(f"\n{len(CASES)} of {len(CASES)} texts equal, worst top-5 log-prob difference {worst:.1e}")


def test_blocks_from_the_prefix_cache_say_the_same(llm):
    for case in (case for case in STATEFUL if case["state"] in ("past", "plural", "first-33")):
        check(case, run(llm, [asked(case)])[0])
        (again,) = run(llm, [asked(case)])
        assert again.num_cached_tokens >= BLOCK
        check(case, again)


def preemptions(llm: LLM) -> int:
    return sum(metric.value for metric in llm.get_metrics() if metric.name == "vllm:num_preemptions")


def test_after_a_preemption_the_slots_are_there_again(llm):
    """Each prompt fills one block to the border: its first new token needs another, and there are too few."""
    before = preemptions(llm)
    cases = [case for case in STATEFUL if case["state"] == "first-26"] * 6
    outputs = run(llm, [asked(case) for case in cases])
    for case, output in zip(cases, outputs, strict=True):
        check(case, output)
    happened = preemptions(llm) - before
    print(f"\n{happened} preemptions")
    assert happened > 0


def test_several_answers_of_one_request_are_each_the_students(llm):
    case = next(case for case in STATEFUL if case["state"] == "ced")
    # vLLM draws several answers only where it samples; of one candidate it can but draw the likeliest.
    (output,) = run(llm, [asked(case, n=2, temperature=1.0, top_k=1)])
    assert [completion.text for completion in output.outputs] == [case["text"]] * 2


def wrong(state: str = "past", **changes) -> tuple[dict, SamplingParams]:
    """A request for a state that differs from a right one."""
    case = next(case for case in STATEFUL if case["state"] == "past")
    prompt, sampling = asked(case, **changes.pop("sampling", {}))
    if state != "past":
        sampling.extra_args = {"kv_transfer_params": {"cedkv_state": state}}
    if changes.pop("plain", False):
        sampling.extra_args = None
    return {**prompt, **changes}, sampling


def wrong_requests() -> dict[str, tuple[dict, SamplingParams]]:
    case = next(case for case in STATEFUL if case["state"] == "past")
    handle = Handle.load(STATES / "past.json")
    right = handle.prompt(case["query"])
    return {
        "missing": wrong("future"),
        "a path": wrong("../states/past"),
        "damaged": wrong("damaged"),
        "foreign": wrong("foreign"),
        "off in some layers": wrong("some-layers"),
        "no salt": wrong(cache_salt=None),
        "another's salt": wrong(cache_salt=Handle.load(STATES / "ced.json").salt),
        "a salt without a state": wrong(plain=True),
        "one placeholder too few": wrong(prompt_token_ids=right[1:]),
        "one placeholder too many": wrong(prompt_token_ids=right[:1] + right),
        "no query": wrong(prompt_token_ids=right[: handle.slots]),
        "one token": wrong(prompt_token_ids=right[:1]),
        "a prompt that ends a block": wrong(prompt_token_ids=right[:BLOCK]),
        "prompt_logprobs": wrong(sampling={"prompt_logprobs": 1}),
    }


@pytest.mark.parametrize("name", wrong_requests())
def test_a_wrong_request_fails_alone(llm, name):
    """It ends with an error and no text, and its neighbours in the batch are right."""
    neighbours = [case for case in CASES if case["state"] in (None, "ced", "past")][::3]
    requests = [asked(case) for case in neighbours]
    prompt, sampling = wrong_requests()[name]
    requests.insert(1, ({key: value for key, value in prompt.items() if value is not None}, sampling))
    outputs = run(llm, requests)
    failed = outputs.pop(1)
    assert failed.outputs[0].finish_reason == "error" and not failed.outputs[0].token_ids
    for case, output in zip(neighbours, outputs, strict=True):
        check(case, output)


def test_a_wrong_request_does_not_poison_the_prefix_cache(llm):
    case = next(case for case in STATEFUL if case["state"] == "plural")
    handle = Handle.load(STATES / "plural.json")
    llm.reset_prefix_cache()
    plain = {"prompt_token_ids": handle.prompt(case["query"]), "cache_salt": handle.salt}
    (output,) = run(llm, [(plain, SamplingParams(temperature=0.0, max_tokens=1))])
    assert output.outputs[0].finish_reason == "error"
    check(case, run(llm, [asked(case)])[0])


def test_a_state_that_changes_under_way_fails_its_request_and_no_other(llm):
    """The scheduler has read it, the worker finds another file: the blocks are reported as not loaded."""
    engine, target = llm.llm_engine, STATES / "first-31.safetensors"
    case, other = (next(c for c in STATEFUL if c["state"] == name) for name in ("first-31", "plural"))
    llm.reset_prefix_cache()
    kept = target.read_bytes()
    try:
        for name, one in (("changed", case), ("neighbour", other)):
            prompt, sampling = asked(one)
            engine.add_request(name, prompt, sampling)
        shutil.copyfile(STATES / "first-33.safetensors", target)
        done = {}
        while engine.has_unfinished_requests():
            done |= {output.request_id: output for output in engine.step() if output.finished}
    finally:
        target.write_bytes(kept)
    assert done["changed"].outputs[0].finish_reason == "error"
    check(other, done["neighbour"])
    check(case, run(llm, [asked(case)])[0])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The OpenAI server, as a user starts it."""
    log = tmp_path_factory.mktemp("server") / "log"
    options = {"dtype": "float32", "max-model-len": 256, "block-size": BLOCK, "max-num-seqs": 8, "port": PORT}
    options["gpu-memory-utilization"] = 0.3  # of the machine's memory, on a CPU too
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", EXPECTED["model"]]
    command += ["--served-model-name", "model", "--enforce-eager", "--kv-transfer-config", json.dumps(TRANSFER)]
    command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
    with log.open("w") as out:
        environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        deadline = time.monotonic() + float(os.environ.get("CEDKV_SERVE_WAIT", "900"))
        while process.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        else:
            pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")
        yield log
    finally:
        process.terminate()
        process.wait(60)


def posted(body: dict) -> tuple[int, dict]:
    data = json.dumps({"model": "model", "temperature": 0, "max_tokens": NEW_TOKENS, **body}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/v1/completions", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def body_of(case: dict) -> dict:
    """As the OpenAI client sends it: `extra_body` lies beside the rest."""
    sent = Handle.load(STATES / f"{case['state']}.json").completion(case["query"])
    return {"prompt": sent["prompt"], **sent["extra_body"]}


def test_over_http_each_state_answers_and_wrong_requests_are_errors(server):
    cases = STATEFUL[::5]
    for case in cases:
        status, answer = posted(body_of(case))
        assert status == 200 and answer["choices"][0]["text"] == case["text"]
    # Two greedy answers of one request are refused by vLLM; with one candidate, drawing is greedy.
    status, answer = posted({**body_of(cases[0]), "n": 2, "temperature": 1, "top_k": 1})
    assert [choice["text"] for choice in answer["choices"]] == [cases[0]["text"]] * 2
    bad = [
        {"echo": True, "logprobs": 1},
        {"kv_transfer_params": {"cedkv_state": "future"}},
        {"cache_salt": "mine"},
        {"prompt": cases[0]["query"]},
    ]
    for change in bad:
        status, answer = posted({**body_of(cases[0]), **change})
        assert status == 500 and "choices" not in answer
    status, answer = posted(body_of(cases[0]))
    assert status == 200 and answer["choices"][0]["text"] == cases[0]["text"]
    assert "there is no state 'future'" in server.read_text()
