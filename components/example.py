"""The finished run that the page opens on. `python -m components.example` makes it anew with the embedded model."""

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from cedkv.config import parse_config
from cedkv.session.runs import Run

FOLDER = Path(__file__).with_name("example_run")
QUERY = "jump"
# Small enough to ship, large enough to show every tab.
SETTINGS = """
episode: {task: present-past, on_train: 24}
phase2:
  eval: {on_samples: 24, off_samples: 45, n_random_trials: 3}
phase3:
  slots: 8
  optim: {tick_every: 5, tick_stress_samples: 45}
  "off": {stress_samples: 90}
"""
# Free-KV's and few-shot's states would double the size and add no view that the report does not already have.
_SHIPPED_STATES = {"ced.safetensors", "select.safetensors"}


def example_runs() -> list[Run]:
    """The shipped example, or none where it was left out."""
    return [Run(folder, note="example") for folder in sorted(FOLDER.glob("20*"))]


def example_comparison() -> dict | None:
    """The example's answers to `QUERY`, as `iter_compare` gave them."""
    path = FOLDER / "comparison.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def make_example() -> Path:
    """Run the gate and one comparison, and put what the page needs into the repository."""
    from cedkv.gate import run_gate
    from cedkv.session.limits import Limits
    from cedkv.session.service import open_service

    with tempfile.TemporaryDirectory() as scratch:
        made = run_gate(parse_config(SETTINGS, "the example's settings"), phase=3, out=scratch).folder
        for state in (made / "artifacts").glob("*.safetensors"):
            if state.name not in _SHIPPED_STATES:
                state.unlink()
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree(made, FOLDER / made.name)
        service = open_service(Limits(), Path(scratch), example_runs())
        *_, comparison = service.iter_compare("example", made.name, QUERY)
    (FOLDER / "comparison.json").write_text(json.dumps(asdict(comparison), indent=1) + "\n", encoding="utf-8")
    return FOLDER


if __name__ == "__main__":
    print(make_example())
