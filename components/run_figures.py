"""What is drawn of a run, from its files: the figures that tabs and the report share; None where there is nothing."""

import json
from collections.abc import Sequence
from typing import Any

from cedkv.session.runs import Run
from components.figures import off_histograms, role_bars, training_curves
from components.off_texts import delta_of, off_samples, off_threshold


def role_figure(run: Run) -> Any:
    """The role masses of a run's slots, or None."""
    roles = run.report.get("role_mass", {}).get("slots")
    return role_bars(roles, run.config.phase3.mixture.delimiter.cap) if roles else None


def largest_delta(run: Run, split: str) -> float:
    """The largest Delta of the student or the demonstrations, nats; 0 where nothing was judged."""
    samples = [sample for view in (run.student, "teacher") for sample in off_samples(run, view, split)]
    return max(map(delta_of, samples), default=0.0)


def off_figure(run: Run, split: str, also: Sequence[str], top: float | None = None) -> Any:
    """The histograms of a judged run, or None. `top` is the Delta up to which they reach."""
    if not judged(run):
        return None
    deltas: dict[str, dict[str, list[float]]] = {}
    for view in [run.student, *also, "teacher"]:
        for sample in off_samples(run, view, split):
            deltas.setdefault(sample["bucket"], {}).setdefault(view, []).append(delta_of(sample))
    if not deltas:  # a report that was opened without its metrics.jsonl
        return None
    buckets = run.report["off"][run.student][split]["buckets"]
    limit = off_threshold(run) if split == "stress" else None
    return off_histograms(deltas, run.student, limit, {name: row["delta_p99"] for name, row in buckets.items()}, top)


def judged(run: Run) -> bool:
    """Whether the student was held against texts outside the relation."""
    return run.student in run.report.get("off", {})


def trained_methods(run: Run) -> list[str]:
    """The methods whose training the run's folder records."""
    files = (run.folder / "artifacts").glob("phase*_training_*.json")
    return sorted((path.stem.split("_training_")[1] for path in files), key=lambda name: name != run.student)


def read_training(run: Run, method: str | None) -> dict[str, Any] | None:
    """Steps and ticks of a method's training."""
    path = next((run.folder / "artifacts").glob(f"phase*_training_{method}.json"), None) if method else None
    return json.loads(path.read_text(encoding="utf-8")) if path else None


def training_figure(training: dict[str, Any] | None) -> Any:
    """The curves of a training."""
    return training_curves(training["steps"], training["ticks"], None) if training and training["steps"] else None
