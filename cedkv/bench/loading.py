"""How long the model takes to load, in a process of its own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cedkv.config import Config
from cedkv.errors import ModelError

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
    model, runtime = config.phase2.model, config.phase2.runtime
    with tempfile.TemporaryDirectory(prefix="cedkv-bench-") as cache:
        return {name: _load(cache, model.id, runtime.torch_dtype, runtime.device) for name in ("cold", "warm")}


def _load(cache: str, *arguments: str) -> float:
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "CEDKV_CACHE": cache, "PYTHONPATH": path}
    command = [sys.executable, "-c", _LOAD, *arguments]
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    if child.returncode:
        raise ModelError(f"model {arguments[0]!r} cannot be loaded: {child.stderr.strip().splitlines()[-1]}")
    return float(child.stdout.split()[-1])
