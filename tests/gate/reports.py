"""Reports for the tests of the gates: blocks written by hand, and reading back what a run left."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cedkv.gate import GateReport
from cedkv.report import Report

# The settings of a gate that takes a tiny model a fraction of a second.
SMALL = [
    "episode.demos=4",
    "episode.on_train=4",
    "phase2.eval.on_samples=6",
    "phase2.eval.off_samples=10",
    "phase2.eval.answer_tokens=4",
]
# A student that passes the default thresholds of phase 2.
ON = {
    "select": {"gain": 0.7, "delta_on_mean": 5.0, "rel_kl_to_teacher": 0.2, "accuracy": 0.7, "whole_answer": 0.6},
    "random": {"accuracy": 0.4, "whole_answer": 0.3, "trials": [0.4]},
    "base": {"accuracy": 0.0, "whole_answer": 0.0},
}
OFF = {name: {"stress": {"delta_p99": p99}} for name, p99 in {"select": 2.0, "teacher": 4.7}.items()}


def unnamed(data: dict[str, Any]) -> list[tuple[str | int, ...]]:
    """The places in a report that its type does not name or names otherwise."""
    try:
        TypeAdapter(Report).validate_python(data, extra="forbid")
    except ValidationError as error:
        return [mistake["loc"] for mistake in error.errors()]
    return []


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def samples(report: GateReport, **wanted: Any) -> list[dict[str, Any]]:
    """The sample records whose fields have the wanted values."""
    return [row for row in records(report.folder) if all(row.get(key) == value for key, value in wanted.items())]
