"""How long it takes until a model is there, in a process of its own, and until a state or a teacher is."""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cedkv.bench.machine import seconds_of, synchronize
from cedkv.config import Config
from cedkv.errors import ModelError
from cedkv.lm import LanguageModel, read_demo_kv
from cedkv.state import DemoTokens, KVPrefix

_LOAD = """
import sys, time
from cedkv.lm import load_model
started = time.perf_counter()
load_model(*sys.argv[1:])
print(time.perf_counter() - started)
"""
_ROOT = Path(__file__).parents[2]


def load_seconds(config: Config) -> dict[str, float]:
    """Seconds of `load_model`, imports left out: `cold` with an empty cache of ours, `warm` with what that left.

    The operating system's own cache of files is as it is.

    Raises
    ------
    ModelError
        The model cannot be loaded.
    """
    model, runtime = config.run.model, config.run.runtime
    with tempfile.TemporaryDirectory(prefix="cedkv-bench-") as cache:
        return {name: _load(cache, model.id, runtime.torch_dtype, runtime.device) for name in ("cold", "warm")}


def _load(cache: str, *arguments: str) -> float:
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "CEDKV_CACHE": cache, "PYTHONPATH": path}
    command = [sys.executable, "-c", _LOAD, *arguments]
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    if child.returncode:
        *_, said = [f"it ended with exit code {child.returncode}", *child.stderr.strip().splitlines()]
        raise ModelError(f"model {arguments[0]!r} cannot be loaded: {said}")
    return float(child.stdout.split()[-1])


def ready_times(lm: LanguageModel, tokens: DemoTokens, student: KVPrefix, repeats: int) -> dict[str, float]:
    """Size of the student's state file, and milliseconds until a student or a cached teacher can be asked.

    `state_load_ms` reads and verifies the file, which the operating system has in memory; `demo_prefill_ms` runs the
    demonstrations through the model. They take turns, after one round that is not counted.
    """

    def prefill() -> None:
        read_demo_kv(lm, tokens)
        synchronize(lm.device)

    with tempfile.TemporaryDirectory(prefix="cedkv-bench-") as folder:
        path = Path(folder) / "state.safetensors"
        student.save(path)
        work = {"state_load_ms": lambda: KVPrefix.load(path, lm.fingerprint), "demo_prefill_ms": prefill}
        times: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(1 + repeats):
            for name, task in work.items():
                times[name].append(seconds_of(task))
        taken = {name: 1e3 * statistics.median(some[1:]) for name, some in times.items()}
        return {"state_file_bytes": path.stat().st_size, **taken}
