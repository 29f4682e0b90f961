"""Wherever cells are judged, the figures are the same, also when a worker is killed in the middle."""

import os
import signal
import sys
from contextlib import suppress

import pytest

from cedkv.errors import ConfigError
from cedkv.events import Done, Progress
from cedkv.ledger import Ledger
from cedkv.sweep.executors import EXECUTORS
from cedkv.sweep.plan import read_plan
from cedkv.sweep.run import iter_sweep
from cedkv.sweep.tables import printed
from tests.sweep.conftest import keys_in, swept, write_sweep

TASKS = ["present-past", "capitalize"]
GRID = {"phase3.slots": [2, 3, 4, 5, 6, 7, 8, 9]}
CELLS = 2 * (4 + 8)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("sweep"), tasks=TASKS, grid=GRID, workers=2)


@pytest.fixture(scope="module")
def inline(file, tmp_path_factory) -> list[dict]:
    sweep, _ = swept(file, tmp_path_factory.mktemp("inline"))
    return shown(sweep.rows)


def shown(rows) -> list[dict]:
    """What is printed of the rows, but for who judged them when."""
    figures = [{name: printed(value) for name, value in row["figures"].items()} for row in rows]
    return [
        {**{name: row[name] for name in ("task", "method", "slots", "error")}, **found}
        for row, found in zip(rows, figures, strict=True)
    ]


def with_a_killed_worker(file, out, on: str) -> list[dict]:
    """Judge all cells elsewhere. After some rows the worker is killed whose row is not the last: it is at work."""
    killed = 0
    for event in iter_sweep(read_plan(file), out, on):
        if isinstance(event, Progress) and event.stage == "judging cells" and event.done >= 6 and not killed:
            *others, last = [row["worker"] for row in Ledger(out / "rows.jsonl").rows().values()]
            for worker in set(others) - {last}:
                with suppress(ProcessLookupError):
                    os.kill(killed := int(worker.rpartition(":")[2]), signal.SIGKILL)
    assert killed, "two workers were at work"
    assert isinstance(event, Done)
    assert len(event.result.rows) == CELLS == len(keys_in(out)) == len(set(keys_in(out)))
    return shown(event.result.rows)


@pytest.mark.parametrize("on", sorted(EXECUTORS.keys() - {"inline"}))
def test_a_killed_worker_loses_no_cell_and_figures_are_inlines(file, inline, tmp_path, monkeypatch, on):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # by default they give way to everything else that runs
    assert not any(row["error"] for row in inline)
    assert with_a_killed_worker(file, tmp_path, on) == inline


def test_without_ray_one_line_names_what_to_install(file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"ray is not installed; run: pip install 'ray>=2.50,<3'"):
        swept(file, tmp_path, on="ray")
