"""Gate: one row per criterion, and everything needed to get the same verdict elsewhere."""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from cedkv.session.runs import Run
from components.desk import Desk
from components.report_page import write_report_page
from components.tabs.frame import Tab, Updates
from components.verdicts import gate_html

_DOWNLOADS = {"report": "report.json", "page": "report.html", "state": "state.safetensors", "config": "config.yaml"}


@dataclass(frozen=True)
class GateParts:
    table: gr.HTML
    downloads: dict[str, gr.DownloadButton]
    command: gr.Code
    python: gr.Code

    def shown(self) -> list[Component]:
        return [self.table, *self.downloads.values(), self.command, self.python]


def build(opening: Run | None) -> GateParts:
    table = gr.HTML(gate_html(None), elem_id="gate-table")
    with gr.Row():
        downloads = {
            name: gr.DownloadButton(label, size="sm", interactive=False, min_width=120, elem_id=f"download-{name}")
            for name, label in _DOWNLOADS.items()
        }
    with gr.Accordion("the same run elsewhere", open=False):
        # Without numbers: those of wrapped lines drift away from their lines.
        command, python = (
            gr.Code(
                "", language=language, label=label, elem_id=elem_id, interactive=False, show_line_numbers=False,
            )
            for language, label, elem_id in (
                ("shell", "copy as command line", "as-command"),
                ("python", "copy as Python", "as-python"),
            )
        )  # fmt: skip
    return GateParts(table, downloads, command, python)


def show(parts: GateParts, run: Run) -> Updates:
    """The criteria, and the run's files to take along."""
    files = {
        "report": next(run.folder.glob("report_*.json"), None),
        "page": write_report_page(run),
        "state": run.state_file(run.student) if run.student else None,
        "config": run.folder / "config.yaml",
    }
    buttons = {
        button: gr.DownloadButton(value=str(files[name]) if files[name] else None, interactive=files[name] is not None)
        for name, button in parts.downloads.items()
    }
    return {parts.table: gate_html(run), **buttons}


def show_states(parts: GateParts, desk: Desk, run: Run) -> Updates:
    return dict(zip((parts.command, parts.python), desk.service.reproduce(run), strict=True))


TAB = Tab("Gate", "gate", build, show, show_states)
