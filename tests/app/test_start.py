"""A quick start: what is imported before the first page is served, and what only afterwards."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import gradio
import pytest

import app
import cedkv
from benchmarks.running_app import ROOT
from cedkv.session.limits import Limits
from components.quick_gradio import without_stubs
from tests.app.conftest import COUNT

# From the least that is asked for to the most.
WITHOUT_THE_ENGINE = [
    "import cedkv",
    "import cedkv.session.views",
    "import components.example; components.example.example_comparison()",
    "import app; from pathlib import Path; app.build(app.Limits(), Path('runs'))",
]


def test_neither_torch_nor_transformers_is_needed_for_a_first_page(tmp_path):
    check = "import sys\n" + "".join(
        f"{line}\nif {{'torch', 'transformers'}} & sys.modules.keys(): sys.exit({line!r})\n"
        for line in WITHOUT_THE_ENGINE
    )
    run = subprocess.run(
        [sys.executable, "-c", check],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_every_public_name_is_there_when_asked_for():
    named = [name for name in cedkv.__all__ if name != "__version__"]
    assert [getattr(cedkv, name).__name__ for name in named] == named
    assert set(cedkv.__all__) <= set(dir(cedkv))
    with pytest.raises(AttributeError, match="'cedkv' has no attribute 'run_gates'"):
        cedkv.run_gates  # noqa: B018


def test_a_type_checker_finds_the_public_names_where_python_does():
    tree = ast.parse(Path(cedkv.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert {alias.name: line.module for line in block.body for alias in line.names} == cedkv._HOMES


def test_the_queue_of_an_idle_app_sleeps_as_long_as_it_is_told(tmp_path):
    """gradio has no argument for it: where another version polls by another name, this says so."""
    queue = app.build(Limits(), tmp_path)[0]._queue
    for name, loop in (
        ("sleep_when_free", queue.start_processing),
        ("progress_update_sleep_when_free", queue.start_progress_updates),
    ):
        assert getattr(queue, name) >= app._POLL_SECONDS
        assert f"asyncio.sleep(self.{name})" in inspect.getsource(loop)


def test_the_count_of_seconds_that_tests_drop_is_gradios():
    (tracker,) = (Path(gradio.__file__).parent / "templates/frontend/assets").glob("statustracker-*.js")
    assert re.search(r"\(\(\)=>\{\w+\(\w+,\(" + COUNT, tracker.read_text(encoding="utf-8"))  # a frame's callback


def test_gradio_finds_no_source_for_its_stubs_and_everybody_else_does():
    from gradio import Button

    with without_stubs():
        with pytest.raises(OSError, match="without a stub"):
            inspect.getfile(Button)
        assert inspect.getfile(Path)
    assert inspect.getfile(Button).endswith("button.py")
