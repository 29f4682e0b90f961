"""Diagnosis: what limits the slots of the present demonstrations, with the curves, and which option to try."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from cedkv.events import Done, Progress
from cedkv.session.runs import Run
from components.desk import Desk
from components.handlers import DRAWING, OPENING, drawn, session_of, told, told_stream, waiting_line
from components.headline import empty_html
from components.plots import take_away_plot
from components.request import read_request
from components.tabs.diagnosis_figures import diagnosis_figure, findings_html, roles_html
from components.tabs.frame import Page, Tab
from components.text import esc

if TYPE_CHECKING:
    from cedkv.gate.diagnosed import Diagnosis

_NOTHING = empty_html(
    "Nothing diagnosed yet",
    "Instant slots of every size, weight, layer and role tell what is in the way. Nothing is trained; a minute or two.",
)


@dataclass(frozen=True)
class DiagnosisParts:
    start: gr.Button
    stop: gr.Button
    file: gr.UploadButton
    findings: gr.HTML
    plot: gr.Plot
    roles: gr.HTML

    def shown(self) -> list[Component]:
        return []

    def drawn(self) -> list[Component]:
        """What a diagnosis fills."""
        return [self.findings, self.plot, self.roles]


def build(opening: Run | None) -> DiagnosisParts:
    with gr.Row(equal_height=True):
        start = gr.Button(
            "Diagnose these demonstrations", size="sm", variant="primary", elem_id="diagnose", min_width=220, scale=0
        )
        stop = gr.Button("Stop", size="sm", elem_id="diagnose-stop", min_width=80, scale=0, visible=False)
        file = gr.UploadButton(
            "A diagnosis.json", size="sm", file_types=[".json"], elem_id="diagnosis-file", min_width=140, scale=0
        )
    findings = gr.HTML(_NOTHING, elem_id="diagnosis-findings")
    plot = take_away_plot("diagnosis-plot")
    return DiagnosisParts(start, stop, file, findings, plot, gr.HTML(elem_id="diagnosis-roles"))


def _busy(words: str) -> str:
    return f'<div class="ck"><p class="ck-note busy">{esc(words)}</p></div>'


def shown(found: "Diagnosis") -> tuple[str, Any, str]:
    """The updates of `DiagnosisParts.drawn` for a diagnosis."""
    return findings_html(found), drawn(diagnosis_figure(found)), roles_html(found)


def wire(page: Page, desk: Desk) -> None:
    parts, setup = page.part(DiagnosisParts), page.setup

    @told_stream
    def diagnose(request: gr.Request, *rail: Any) -> Iterator[tuple[Any, ...]]:
        asked = read_request(setup.form, rail)
        config = desk.service.prepare(session_of(request), asked.config, asked.demos, asked.own)
        yield _busy("reading the demonstrations"), drawn(None), "", gr.Button(visible=True)
        for event in desk.service.looks.diagnose(config):
            if isinstance(event, Progress):
                yield _busy(f"{event.stage}, {event.done + 1} of {event.total}"), gr.skip(), gr.skip(), gr.skip()
            elif isinstance(event, Done):
                yield *shown(event.result), gr.skip()

    @told
    def open_file(path: str) -> tuple[str, Any, str]:
        from cedkv.gate.diagnosed import read_diagnosis

        desk.limits.check_upload(Path(path))
        return shown(read_diagnosis(path, Path(path).name))

    going = parts.start.click(
        diagnose, setup.inputs(), [*parts.drawn(), parts.stop], show_progress="minimal", show_progress_on=parts.start,
        **waiting_line("sizes"),
    )  # fmt: skip
    going.then(lambda: gr.Button(visible=False), None, parts.stop, **DRAWING)
    stopped = empty_html("Stopped", "Diagnose again when you like; what was measured is gone.")
    parts.stop.click(
        lambda: (stopped, gr.Button(visible=False)), None, [parts.findings, parts.stop], cancels=[going], **DRAWING
    )
    parts.file.upload(open_file, parts.file, parts.drawn(), **OPENING)


TAB = Tab("Diagnosis", "diagnosis", build, wire=wire)
