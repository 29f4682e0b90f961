"""Load on a stock vLLM server that serves states, beside the same questions with the demonstrations in the prompt.

    make serve-vllm

Runs in vLLM's environment on the folder that `tests/serve/vllm/expected.py` wrote: starts the OpenAI server on the
embedded model, asks 200 requests over 8 states, 8 at a time, compares each answer with the student's, and then asks as
many with the demonstrations as text, first without and then with vLLM's own prefix cache.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cedkv_vllm.client import Handle

STATES = 8


class Answer(NamedTuple):
    """What came back, and after how many seconds its first token and all of it."""

    text: str
    first: float
    whole: float


@contextmanager
def server(folder: Path, model: str, port: int, log: Path) -> Iterator[None]:
    """The OpenAI server, from its start until it is no longer needed."""
    transfer = {
        "kv_connector": "StateConnector",
        "kv_connector_module_path": "cedkv_vllm.connector",
        "kv_role": "kv_consumer",
        "kv_connector_extra_config": {"states": str(folder / "states")},
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--port", str(port)]
    command += ["--served-model-name", "model", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager"]
    command += ["--max-num-seqs", "8", "--kv-transfer-config", json.dumps(transfer)]
    command += [
        "--gpu-memory-utilization",
        "0.3",
    ]  # on a CPU too: else vLLM takes nine tenths of the memory, or refuses
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        while True:
            if process.poll() is not None:
                sys.exit(f"the server did not start; see {log}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait(60)


def ask(port: int, new_tokens: int, body: dict) -> Answer:
    """One streamed completion."""
    data = {"model": "model", "temperature": 0, "max_tokens": new_tokens, "stream": True, **body}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions", json.dumps(data).encode(), {"Content-Type": "application/json"}
    )
    started, text, first = time.monotonic(), "", None
    with urllib.request.urlopen(request, timeout=600) as stream:
        for line in stream:
            if line.startswith(b"data: {"):
                first = first or time.monotonic() - started
                text += json.loads(line[6:])["choices"][0]["text"]
    return Answer(text, first, time.monotonic() - started)


def load(bodies: Sequence[dict], at_once: int, one: Callable[[dict], Answer]) -> tuple[list[Answer], float]:
    """All answers, in the order of the requests, and the seconds that all of them took."""
    started = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, bodies)), time.monotonic() - started


def row(name: str, tokens: int, answers: Sequence[Answer], seconds: float) -> str:
    first = sorted(answer.first * 1000 for answer in answers)
    middle, late = statistics.median(first), first[int(len(first) * 0.9)]
    return f"| {name} | {tokens} | {len(answers) / seconds:.2f} | {middle:.0f} | {late:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--port", type=int, default=8732)
    args = parser.parse_args()
    expected = json.loads((args.folder / "expected.json").read_text(encoding="utf-8"))
    names = list(dict.fromkeys(case["state"] for case in expected["cases"] if case["state"]))[:STATES]
    by_state = [[case for case in expected["cases"] if case["state"] == name] for name in names]
    # Turn and turn about, so that neighbours in a batch have different states.
    cases = [by_state[i % len(names)][i // len(names) % len(by_state[0])] for i in range(args.requests)]
    handles = {name: Handle.load(args.folder / "states" / f"{name}.json") for name in names}
    sent = [handles[case["state"]].completion(case["query"]) for case in cases]
    with_states = [{"prompt": one["prompt"], **one["extra_body"]} for one in sent]
    as_text = [{"prompt": expected["demonstrations"] + case["query"]} for case in cases]
    # A salt of its own keeps a request from finding another's blocks.
    uncached = [{**body, "cache_salt": f"request {i}"} for i, body in enumerate(as_text)]
    log = args.folder / "server.log"

    def one(body: dict) -> Answer:
        return ask(args.port, expected["new_tokens"], body)

    print(f"Starting the server; its log is {log}.", flush=True)
    with server(args.folder, expected["model"], args.port, log):
        load(with_states[: len(names)], args.at_once, one)
        rows, right = [], 0
        for name, bodies in (
            ("states", with_states),
            ("demonstrations in the prompt", uncached),
            ("the same, from the prefix cache", as_text),
        ):
            answers, seconds = load(bodies, args.at_once, one)
            rows.append(row(name, max(len(body["prompt"]) for body in bodies), answers, seconds))
            if bodies is with_states:
                right = sum(answer.text == case["text"] for answer, case in zip(answers, cases, strict=True))
    print(f"{right} of {len(cases)} answers behind {len(names)} states are the student's, token by token.")
    print("| prompt | longest, tokens | requests/s | first token, median ms | 90 % within ms |")
    print("| --- | ---: | ---: | ---: | ---: |")
    print("\n".join(rows))
    if right < len(cases):
        sys.exit(1)


if __name__ == "__main__":
    main()
