"""OFF effect: what the slots do to texts that are none of their business, per kind of text, and the worst of them."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from cedkv.session.runs import Run
from components.desk import Desk
from components.handlers import DRAWING, drawn, run_of, told
from components.headline import loading_html, not_judged_html
from components.off_texts import WORST_HEADERS, worst_rows, worst_text
from components.plots import take_away_plot
from components.run_figures import judged, off_figure, trained_methods
from components.tabs import compare
from components.tabs.frame import Page, Tab, Updates
from components.theme import view_name

_READS = "texts that have nothing to do with the relation are read"


@dataclass(frozen=True)
class OffParts:
    note: gr.HTML
    split: gr.Radio
    also: gr.CheckboxGroup
    histograms: gr.Plot
    worst: gr.Dataframe

    def shown(self) -> list[Component]:
        return [self.note, self.split, self.also, self.histograms, self.worst]


def build(opening: Run | None) -> OffParts:
    with gr.Row():
        split = gr.Radio(["stress", "typical"], value="stress", label="OFF set", container=False, elem_id="split")
        also = gr.CheckboxGroup([], label="beside it", container=False, elem_id="off-also")
    note = gr.HTML(
        loading_html(opening, not_judged_html(None, _READS)), elem_id="off-note",
    )  # fmt: skip
    histograms = take_away_plot("off-histograms")
    worst = gr.Dataframe(
        headers=WORST_HEADERS, datatype=["number", "number", "str", "str"], interactive=False, wrap=True,
        label="worst texts; a click opens one in Compare", elem_id="worst", max_height=320, show_search="search",
        column_widths=["90px", "150px", "150px", "auto"], type="array",
    )  # fmt: skip
    return OffParts(note, split, also, histograms, worst)


def show(parts: OffParts, run: Run) -> Updates:
    views, chosen = beside(run)
    return {
        parts.note: gr.HTML(not_judged_html(run, _READS), visible=not judged(run)),
        parts.split: "stress",
        parts.also: gr.CheckboxGroup(views, value=chosen),
        parts.histograms: drawn(off_figure(run, "stress", chosen)),
        parts.worst: worst_rows(run, "stress"),
    }


def wire(page: Page, desk: Desk) -> None:
    parts, asking = page.part(OffParts), page.part(compare.CompareParts)

    @told
    def draw(run_id: str, split: str, also: list[str], request: gr.Request) -> tuple[Any, Any]:
        run = run_of(desk, request, run_id)
        return drawn(off_figure(run, split, also)), worst_rows(run, split)

    @told
    def open_row(run_id: str, split: str, request: gr.Request, chosen: gr.SelectData) -> tuple[Any, ...]:
        text = worst_text(run_of(desk, request, run_id), split, str(chosen.row_value[3]))
        return text, True, gr.Tabs(selected=compare.TAB.id)

    drawing = [page.run_id, parts.split, parts.also], [parts.histograms, parts.worst]
    gr.on([parts.split.input, parts.also.input], draw, *drawing, **DRAWING)
    query = [asking.query, asking.plain, page.strip]
    opened = parts.worst.select(open_row, [page.run_id, parts.split], query, **DRAWING)
    opened.then(None, js=compare.TO_QUERY).then(**compare.comparing(page, desk))


def beside(run: Run) -> tuple[list[tuple[str, str]], list[str]]:
    """The views that can stand beside the student, as (label, view), and those that do from the start.

    What training starts from, chunks in closed form or the tokens that Select-KV copies, is the student untrained. An
    ordinary paragraph is what the student is held against.
    """
    start = "chunked" if run.student == "ced" and run.config.phase3.start == "chunks" else "select"
    trained = bool(trained_methods(run)) and run.student != start
    told = {sample["view"] for sample in run.samples if sample["kind"] == "off"}  # random trials have only their means
    views = [view for view in run.report.get("off", {}) if view in told - {run.student, "teacher", "base"}]
    labels = [f"{view_name(view)}, untrained" if view == start and trained else view_name(view) for view in views]
    chosen = [view for view in views if view == "neutral_paragraph" or (view == start and trained)]
    return list(zip(labels, views, strict=True)), chosen


TAB = Tab("OFF effect", "off", build, show, wire=wire)
