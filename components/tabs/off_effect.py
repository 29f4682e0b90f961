"""OFF effect: what the slots do to texts that are none of their business, per kind of text, and the worst of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from cedkv.session.runs import Run
from components.figures import off_histograms
from components.headline import empty_html
from components.tabs.training import trained_methods
from components.text import visible
from components.theme import view_name

WORST_HEADERS = ["Delta, nats", "demonstrations", "bucket", "text"]
_WORST = 25


@dataclass(frozen=True)
class OffTab:
    note: gr.HTML
    split: gr.Radio
    also: gr.CheckboxGroup
    histograms: gr.Plot
    worst: gr.Dataframe


def build_off() -> OffTab:
    with gr.Row():
        split = gr.Radio(["stress", "typical"], value="stress", label="OFF set", container=False, elem_id="split")
        also = gr.CheckboxGroup([], label="beside it", container=False, elem_id="off-also")
    note = gr.HTML(
        empty_html("Not judged yet", "Press Run gate: it reads texts that have nothing to do with the relation."),
        elem_id="off-note",
    )
    histograms = gr.Plot(show_label=False, visible=False, elem_id="off-histograms")
    worst = gr.Dataframe(
        headers=WORST_HEADERS, datatype=["number", "number", "str", "str"], interactive=False, wrap=True,
        label="worst texts; a click opens one in Compare", elem_id="worst", max_height=320, show_search="search",
        column_widths=["90px", "150px", "150px", "auto"], type="array",
    )  # fmt: skip
    return OffTab(note, split, also, histograms, worst)


def beside(run: Run) -> tuple[list[tuple[str, str]], list[str]]:
    """The views that can stand beside the student, as (label, view), and those that do from the start.

    Training starts from the tokens that Select-KV copies, so its histogram is the trained student's before training.
    """
    trained = bool(trained_methods(run)) and run.student != "select"
    told = {sample["view"] for sample in run.samples if sample["kind"] == "off"}  # random trials have only their means
    views = [view for view in run.report.get("off", {}) if view in told - {run.student, "teacher", "base"}]
    labels = [
        f"{view_name(view)}, before training" if view == "select" and trained else view_name(view) for view in views
    ]
    return list(zip(labels, views, strict=True)), [view for view in views if view == "select" and trained]


def off_figure(run: Run, split: str, also: Sequence[str]) -> Any:
    """The histograms of a judged run, or None."""
    if run.student not in run.report.get("off", {}):
        return None
    deltas: dict[str, dict[str, list[float]]] = {}
    for view in [run.student, *also, "teacher"]:
        for sample in off_samples(run, view, split):
            deltas.setdefault(sample["bucket"], {}).setdefault(view, []).append(delta_of(sample))
    if not deltas:  # a report that was opened without its metrics.jsonl
        return None
    buckets = run.report["off"][run.student][split]["buckets"]
    limit = off_threshold(run) if split == "stress" else None
    return off_histograms(deltas, run.student, limit, {name: row["delta_p99"] for name, row in buckets.items()})


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
