"""Sweeps of a tiny model: their files, and what one run of them tells."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cedkv.events import Done, Event
from cedkv.sweep.plan import read_plan
from cedkv.sweep.run import Sweep, iter_sweep
from tests.tiny import tiny_path

# As many cells as are wanted, each a fraction of a second.
SMALL = {
    "episode": {"demos": 4, "on_train": 4},
    "phase2": {"eval": {"on_samples": 4, "off_samples": 8, "answer_tokens": 2}},
    "phase3": {"off_data": {"stress_samples": 8}},
}


def small_settings() -> dict:
    return {**SMALL, "run": {"model": {"id": str(tiny_path("llama"))}}}


def write_sweep(folder: Path, **changes) -> Path:
    """A file with a sweep of the tiny model; `changes` are its keys."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump({"settings": small_settings(), "methods": ["select"], **changes}, sort_keys=False))
    return file


@pytest.fixture
def file(tmp_path) -> Callable[..., Path]:
    return lambda **changes: write_sweep(tmp_path, **changes)


def swept(file: Path, out: Path, **options) -> tuple[Sweep, list[Event]]:
    *events, done = iter_sweep(read_plan(file), out, **options)
    assert isinstance(done, Done)
    return done.result, events


def keys_in(out: Path) -> list[str]:
    """The keys of all lines of a sweep's ledger, those that are there twice too."""
    return [json.loads(line)["key"] for line in (out / "rows.jsonl").read_text().splitlines()]
