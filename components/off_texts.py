"""The texts outside the relation that a run was judged on, and what its views do to them."""

from typing import Any

from cedkv.session.runs import Run
from components.text import visible

WORST_HEADERS = ["Delta, nats", "demonstrations", "bucket", "text"]
_WORST = 25


def worst_rows(run: Run, split: str) -> list[list[Any]]:
    """The student's largest Deltas with the demonstrations' own on the same text."""
    teacher = {sample["text"]: delta_of(sample) for sample in off_samples(run, "teacher", split)}
    ranked = sorted(off_samples(run, run.student, split), key=delta_of, reverse=True)[:_WORST]
    return [
        [
            round(delta_of(sample), 2),
            round(teacher.get(sample["text"], 0.0), 2),
            sample["bucket"],
            visible(sample["text"]),
        ]
        for sample in ranked
    ]


def worst_text(run: Run, split: str, shown: str) -> str:
    """The text behind a row, as it was read by the model."""
    found = (sample["text"] for sample in off_samples(run, run.student, split) if visible(sample["text"]) == shown)
    return next(found, shown)


def off_samples(run: Run, view: str, split: str) -> list[dict[str, Any]]:
    return [s for s in run.samples if s["kind"] == "off" and s["view"] == view and s["split"] == split]


def delta_of(sample: dict[str, Any]) -> float:
    return next(value for name, value in sample.items() if "_delta_off_" in name)


def off_threshold(run: Run) -> float | None:
    """The gate's bound on the stress p99, from the report's own row."""
    rows = run.report.get("gate_b", [])
    return next((row["threshold"] for row in rows if row["name"].startswith("off_delta_p99")), None)
