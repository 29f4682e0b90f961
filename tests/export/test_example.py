"""The example runs as it is shown."""

import os
import subprocess
import sys
from pathlib import Path

from tests.export.test_plain_transformers import state_of
from tests.tiny import tiny_path

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_runs(tmp_path):
    state_of("llama").save(tmp_path / "state.safetensors")
    command = [sys.executable, "examples/plain_transformers.py", tmp_path / "state.safetensors", tiny_path("llama")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    run = subprocess.run([*command, "Q: rain\nA:", "7"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(" -> ") == 2
