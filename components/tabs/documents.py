"""Documents: a long text and a question, answered behind all of it, passages of it, or a few slots in its place; and a
run of many such questions, by depth and length."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from cedkv.events import Done, Progress
from cedkv.session.runs import Run
from components.desk import Desk
from components.handlers import DRAWING, drawn, session_of, told, told_stream, waiting_line
from components.headline import empty_html
from components.plots import take_away_plot
from components.tabs.documents_figures import needle_heatmaps, off_html, view_title
from components.tabs.frame import Page, Tab
from components.text import esc

if TYPE_CHECKING:
    from cedkv.session.documents import DocumentAnswer

_EXAMPLE = (
    "The harbour wakes early. Boats leave before the sun is up, and the gulls follow them for a while. "
    "The pass key is 48291. Remember it. By noon the quay is empty, and only the old men stay on the bench "
    "and speak of storms that nobody else remembers."
)
_QUESTION = "What is the pass key? The pass key is"
_NO_RUN = '<p class="ck muted">python -m cedkv documents writes runs/documents.json; open it to see its maps.</p>'
_NOTHING = empty_html("No question yet", "Paste a document, ask, and see what each view of it answers.")


@dataclass(frozen=True)
class DocumentParts:
    """`answered` is of which document there are answers, by which views, of how many slots its gists are, and the
    question's number."""

    text: gr.Textbox
    file: gr.UploadButton
    question: gr.Textbox
    ask: gr.Button
    train: gr.Checkbox
    stop: gr.Button
    answers: gr.HTML
    off: gr.HTML
    mask: gr.HTML
    judged: gr.UploadButton
    kind: gr.Radio
    heatmaps: gr.Plot
    grid: gr.State
    answered: gr.State

    def shown(self) -> list[Component]:
        return []


def build(opening: Run | None) -> DocumentParts:
    text = gr.Textbox(_EXAMPLE, label="document", lines=8, max_lines=20, elem_id="document")
    with gr.Row():
        question = gr.Textbox(_QUESTION, label="question, up to where its answer begins", elem_id="asked", scale=4)
        file = gr.UploadButton("Text file", size="sm", elem_id="document-file", min_width=100)
        ask = gr.Button("Ask", elem_id="ask-document", variant="primary", min_width=100)
    train = gr.Checkbox(
        False, label="also CED, trained on this document (minutes on a processor)", elem_id="train-document"
    )
    stop = gr.Button("Stop training", size="sm", visible=False, elem_id="stop-document", min_width=120)
    answers = gr.HTML(_NOTHING, elem_id="document-answers")
    off = gr.HTML(elem_id="document-off")
    with gr.Accordion("who sees whom while gists read", open=False):
        mask = gr.HTML(mask_html(), elem_id="gist-mask")
    with gr.Accordion("a run of many questions, by depth and length", open=False):
        with gr.Row():
            judged = gr.UploadButton(
                "A documents.json", size="sm", file_types=[".json"], elem_id="judged-file", min_width=140, scale=0
            )
            kind = gr.Radio([], label="needle", container=False, elem_id="judged-kind")
        gr.HTML(_NO_RUN, elem_id="judged-note")
        heatmaps = take_away_plot("needle-heatmaps")
    grid, answered = gr.State([]), gr.State(("", [], 0, 0))
    return DocumentParts(
        text, file, question, ask, train, stop, answers, off, mask, judged, kind, heatmaps, grid, answered
    )


def mask_html() -> str:
    """The mask for a few tokens, drawn without the engine."""
    return Path(__file__).with_name("gist_mask.svg").read_text(encoding="utf-8")


def other_text_html(far: str = "") -> str:
    """What the prefixes do to other text is being read. `far` : how many readings are done."""
    return f'<p class="ck muted">reading other text behind these prefixes{far}</p>'


def stage_words(stage: Progress) -> str:
    """What is being done, and how far it is where that is counted."""
    return f"{stage.stage}: {stage.done} of {stage.total}" if stage.total > 1 else f"{stage.stage}…"


def answers_html(answers: list["DocumentAnswer"], going: str = "") -> str:
    """A row for each view: what it answers, and what that costs. `going` is what is still being done."""
    head = "<tr><th>view</th><th>answer</th><th>slots</th><th>KV</th><th>first token</th></tr>"
    rows = "".join(_row(answer) for answer in answers)
    more = f'<p class="ck-note">{esc(going)}</p>' if going else ""
    return f'<div class="ck"><table class="ck-table">{head}{rows}</table>{more}{_passages(answers)}</div>'


def _row(answer: "DocumentAnswer") -> str:
    title = esc(view_title(answer.view))
    if answer.missing:
        return f'<tr><th>{title}</th><td colspan="4" class="ck-note">{esc(answer.missing)}</td></tr>'
    return (
        f"<tr><th>{title}</th><td>{esc(answer.text.strip())}</td>"
        f'<td class="num">{answer.slots}</td><td class="num">{answer.kv_bytes / 1024:,.0f} KiB</td>'
        f'<td class="num">{answer.ttft_ms:,.0f} ms</td></tr>'
    )


def _passages(answers: list["DocumentAnswer"]) -> str:
    found = next((answer.passages for answer in answers if answer.passages), ())
    items = "".join(f'<li><span class="num">{score:.2f}</span> {esc(passage.text)}</li>' for passage, score in found)
    return f"<h3>passages that retrieval found</h3><ol>{items}</ol>" if items else ""


def wire(page: Page, desk: Desk) -> None:
    parts = page.part(DocumentParts)

    @told_stream
    def ask(text: str, question: str, train: bool, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        answers: list[DocumentAnswer] = []
        session, going = session_of(request), desk.documents.going
        number = desk.store.ask(session)
        with going.of(session) as stop:
            for answer in desk.documents.iter_document(page.config, text, question, stop if train else None):
                if isinstance(answer, Progress):
                    ahead = stage_words(answer)
                else:
                    answers.append(answer)
                    ahead = "more to come"
                yield answers_html(answers, ahead), "", gr.skip(), gr.Button(visible=train)
        views = [answer.view for answer in answers if answer.for_others]
        slots = max((answer.slots for answer in answers if answer.view == "gist"), default=0)
        yield answers_html(answers), other_text_html(), (text, views, slots, number), gr.Button(visible=False)

    def stop_training(request: gr.Request) -> None:
        desk.documents.going.cancel(session_of(request))

    @told_stream
    def read_other_text(answered: tuple[str, list[str], int, int], request: gr.Request) -> Iterator[str]:
        text, views, slots, number = answered
        for event in desk.documents.iter_off(page.config, text, views):
            if not desk.store.wanted(session_of(request), number):
                yield ""
                return
            if isinstance(event, Progress):
                yield other_text_html(f": {event.done} of {event.total}")
            if isinstance(event, Done):
                yield off_html(event.result, slots)

    @told
    def opened(path: str) -> str:
        from cedkv.episodes.documents import read_document

        desk.limits.check_upload(Path(path))
        return read_document(path)

    @told
    def judged(path: str) -> tuple[Any, Any, Any]:
        from cedkv.compressors.judged import read_grid

        desk.limits.check_upload(Path(path))
        rows = read_grid(path, Path(path).name)
        kinds = list(dict.fromkeys(row["kind"] for row in rows))
        return gr.Radio(kinds, value=kinds[0]), drawn(needle_heatmaps(rows, kinds[0])), rows

    @told
    def draw(kind: str, rows: list[Any]) -> Any:
        return drawn(needle_heatmaps(rows, kind))

    asked = [parts.text, parts.question, parts.train]
    said = [parts.answers, parts.off, parts.answered, parts.stop]
    asking: list[Any] = [parts.ask.click, parts.question.submit]
    # Asked again meanwhile, the last question counts; what the one before does to other text is then not read on. (An
    # event that cancels this one would come too late: gradio sends a trigger's events one after the other.)
    answering = gr.on(
        asking, ask, asked, said, show_progress="minimal", trigger_mode="always_last", **waiting_line("document")
    )
    answering.success(read_other_text, parts.answered, parts.off, show_progress="hidden", **waiting_line("other_text"))
    answering.then(lambda: gr.Button(visible=False), None, parts.stop, **DRAWING)  # also where it was refused
    parts.stop.click(stop_training, None, None, **DRAWING)
    parts.judged.upload(judged, parts.judged, [parts.kind, parts.heatmaps, parts.grid], **DRAWING)
    parts.kind.input(draw, [parts.kind, parts.grid], parts.heatmaps, **DRAWING)
    parts.file.upload(opened, parts.file, parts.text, show_progress="hidden", api_visibility="private")


TAB = Tab("Documents", "documents", build, wire=wire)
