"""Gate: one row per criterion, and everything needed to get the same verdict elsewhere."""

from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr
from gradio.components import Component

from cedkv.errors import CedKVError
from cedkv.session.runs import Run
from components.desk import Desk
from components.handlers import DRAWING, run_of, told
from components.headline import loading_html
from components.report_page import write_report_page
from components.tabs.frame import Page, Tab, Updates
from components.verdicts import gate_html

_DOWNLOADS = {"report": "report.json", "state": "state.safetensors", "config": "config.yaml"}
# The page is made when it is asked for, and then taken by a button that is never seen.
_TAKE_PAGE = "() => setTimeout(() => document.querySelector('#made-page')?.click(), 150)"


@dataclass(frozen=True)
class GateParts:
    table: gr.HTML
    downloads: dict[str, gr.DownloadButton]
    page: gr.Button
    made: gr.DownloadButton
    command: gr.Code
    python: gr.Code

    def shown(self) -> list[Component]:
        return [self.table, *self.downloads.values(), self.command, self.python]


def build(opening: Run | None) -> GateParts:
    table = gr.HTML(loading_html(opening, gate_html(None)), elem_id="gate-table")
    with gr.Row():
        downloads = {
            name: gr.DownloadButton(label, size="sm", interactive=False, min_width=120, elem_id=f"download-{name}")
            for name, label in _DOWNLOADS.items()
        }
        page = gr.Button("report.html, with its plots", size="sm", min_width=120, elem_id="download-page")
        made = gr.DownloadButton("report.html", visible="hidden", elem_id="made-page")
    with gr.Accordion("the same run elsewhere", open=False):
        command = _code("shell", "copy as command line", "as-command")
        python = _code("python", "copy as Python", "as-python")
    return GateParts(table, downloads, page, made, command, python)


def _code(language: Literal["shell", "python"], label: str, elem_id: str) -> gr.Code:
    # Without numbers: those of wrapped lines drift away from their lines.
    return gr.Code("", language=language, label=label, elem_id=elem_id, interactive=False, show_line_numbers=False)


def show(parts: GateParts, run: Run) -> Updates:
    """The criteria, and the run's files to take along."""
    files = {
        "report": next(run.folder.glob("report_*.json"), None),
        "state": run.state_file(run.student) if run.student else None,
        "config": run.folder / "config.yaml",
    }
    buttons: Updates = {
        button: gr.DownloadButton(value=str(files[name]) if files[name] else None, interactive=files[name] is not None)
        for name, button in parts.downloads.items()
    }
    return {parts.table: gate_html(run), **buttons}


def show_states(parts: GateParts, desk: Desk, run: Run) -> Updates:
    try:
        texts = desk.service.reproduce(run)
    except CedKVError as error:  # the run can be looked at all the same
        texts = (f"# {error}",) * 2
    return dict(zip((parts.command, parts.python), texts, strict=True))


def wire(page: Page, desk: Desk) -> None:
    parts = page.part(GateParts)

    @told
    def make(run_id: str, request: gr.Request) -> Any:
        return gr.DownloadButton(value=str(write_report_page(run_of(desk, request, run_id))))

    made = parts.page.click(make, page.run_id, parts.made, **DRAWING)
    made.success(None, js=_TAKE_PAGE)


TAB = Tab("Gate", "gate", build, show, show_states, wire=wire)
