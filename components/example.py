"""The finished run that the page opens on. `python -m components.example` makes it anew with the embedded model."""

import json
import shutil
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from cedkv.config import parse_config
from cedkv.session.limits import Limits
from cedkv.session.runs import Run
from cedkv.session.store import SessionStore
from cedkv.session.views import Comparison, SlotMap, View, Why

FOLDER = Path(__file__).with_name("example_run")
QUERY = "jump"
# Small enough to ship, large enough to show every tab.
SETTINGS = """
episode: {task: present-past, on_train: 24}
phase2:
  eval: {on_samples: 16, off_samples: 36, n_random_trials: 2}
phase3:
  slots: 8
  optim: {steps: 20, tick_every: 4, tick_on_samples: 8, tick_stress_samples: 36}
  off_data: {stress_samples: 54}
"""
# Free-KV's and few-shot's states would double the size and add no view that the report does not already have.
_SHIPPED_STATES = {"ced.safetensors", "select.safetensors"}


def example_runs(root: Path) -> list[Run]:
    """The shipped example, or none where it was left out.

    A copy below `root`: the page offers its files and writes a report beside them, and the package stays as it is.
    """
    shipped = sorted(FOLDER.glob("20*"))
    copies = [shutil.copytree(folder, root / "example" / folder.name, dirs_exist_ok=True) for folder in shipped]
    return [Run(copy, note="example") for copy in copies]


def example_comparison() -> Comparison | None:
    """The example's answers to `QUERY`, as `iter_compare` gave them."""
    path = FOLDER / "comparison.json"
    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    return Comparison(stored["query"], tuple(View(**view) for view in stored["views"]), done=True)


@cache
def example_why() -> Why | None:
    """Why the example's student gave that answer, as `Service.explain` found it."""
    path = FOLDER / "why.json"
    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    return Why(**{**stored, "tokens": tuple(stored["tokens"]), "slots": SlotMap(**stored["slots"])})


def make_answer(run_id: str, scratch: Path) -> None:
    """Ask the example's query of the run in the repository and put the answer and its explanation beside it."""
    from cedkv.session.service import Service

    service = Service(Limits(), SessionStore(scratch, Limits(), example_runs(scratch)))
    *_, comparison = service.iter_compare("example", run_id, QUERY)
    why = service.explain("example", run_id, comparison, plain=False)
    assert why is not None, "a run with slots is explained"
    (FOLDER / "comparison.json").write_text(json.dumps(asdict(comparison), indent=1) + "\n", encoding="utf-8")
    (FOLDER / "why.json").write_text(json.dumps(_rounded(asdict(why))) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Floats as short as the page needs them."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def make_example() -> Path:
    """Run the gate and one comparison, and put what the page needs into the repository."""
    from cedkv.gate import run_gate

    with tempfile.TemporaryDirectory() as scratch:
        made = run_gate(parse_config(SETTINGS, "the example's settings"), phase=3, out=scratch).folder
        for state in (made / "artifacts").glob("*.safetensors"):
            if state.name not in _SHIPPED_STATES:
                state.unlink()
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree(made, FOLDER / made.name)
        make_answer(made.name, Path(scratch))
    return FOLDER


if __name__ == "__main__":
    print(make_example())
