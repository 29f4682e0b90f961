"""Runs: history, opening files from elsewhere, and two runs side by side with their differences marked."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gradio as gr
from gradio.components import Component

from cedkv.errors import CedKVError
from cedkv.session.runs import Run
from components.desk import Desk
from components.figures import slot_heatmap
from components.handlers import DRAWING, SHORT_QUEUE, QuietQueue, drawn, run_of, session_of, told
from components.headline import empty_html, headline_html, task_name
from components.plots import take_away_plot
from components.request import Request, demos_as_lines, read_request
from components.run_figures import largest_delta, off_figure
from components.settings import compact_yaml, setting_paths, shown, value_of
from components.tabs.compare import CompareParts, comparing
from components.tabs.frame import Page, Tab, Updates, show_run
from components.text import esc, number
from components.theme import view_name

# A refused file must not lay its error over everything that a run would have filled; a message tells it.
_OPENING: QuietQueue = {**SHORT_QUEUE, "show_progress": "hidden", "api_visibility": "public"}
# The link as it can be passed on, with the host that only the browser knows.
_TO_ADDRESS_BAR = "(link) => { history.replaceState(null, '', link); return location.href; }"

HEADERS = [
    "run",
    "name",
    "tags",
    "task",
    "method",
    "S",
    "first token",
    "whole answer",
    "KL",
    "OFF p99",
    "verdict",
]
_NUMBERS = {"S", "first token", "whole answer", "KL", "OFF p99"}
_HISTORY_LABEL = "runs of this session; a click shows one. A reload keeps them, closing the page does not"
# Where a file lies is nobody's business but the server's.
_FILES = {"episode.demos_file", "episode.task_file"}
_METRICS = {
    "first token": ("on", "accuracy"),
    "whole answer": ("on", "whole_answer"),
    "KL to teacher, nats": ("on", "kl_to_teacher"),
    "whole answer, log-prob gain": ("on", "answer_logprob_gain"),
    "Delta ON mean, nats": ("on", "delta_on_mean"),
    "OFF p99 stress, nats": ("off", "stress", "delta_p99"),
    "OFF p99 typical, nats": ("off", "typical", "delta_p99"),
}


@dataclass(frozen=True)
class RunsParts:
    history: gr.Dataframe
    notes: dict[str, gr.Textbox]
    save: gr.Button
    upload: gr.UploadButton
    pack: gr.Button
    packed: gr.DownloadButton
    left: gr.Dropdown
    right: gr.Dropdown
    pinned: gr.HTML
    maps: list[gr.Plot]
    offs: list[gr.Plot]
    link: gr.Textbox
    share: gr.Button

    def shown(self) -> list[Component]:
        return [self.history, *self.notes.values(), self.left, self.right]


def build(opening: Run | None) -> RunsParts:
    history = gr.Dataframe(
        headers=HEADERS, interactive=False, wrap=True, label=_HISTORY_LABEL,
        elem_id="history", max_height=420, type="array",
        datatype=["number" if name in _NUMBERS else "str" for name in HEADERS],
        column_widths=["15%", "11%", "8%", "11%", "10%", "5%", "8%", "9%", "7%", "7%", "9%"],
    )  # fmt: skip
    with gr.Row(elem_classes="ck-fields"):
        notes = {
            part: gr.Textbox(label=label, elem_id=f"run-{part}", min_width=width, scale=scale, lines=1, max_lines=4)
            for part, label, width, scale in (
                ("name", "name of the run that is shown", 180, 2), ("tags", "tags", 120, 1), ("text", "notes", 240, 4),
            )
        }  # fmt: skip
        save = gr.Button("Save", size="sm", elem_id="save-notes", min_width=80, scale=0)
    with gr.Row():
        upload = gr.UploadButton(
            "Open files of a run, or a session", file_count="multiple", elem_id="upload", min_width=160, size="sm",
            file_types=[".safetensors", ".json", ".jsonl", ".yaml", ".yml", ".zip"],
        )  # fmt: skip
        pack = gr.Button("All runs as zip", size="sm", elem_id="pack", min_width=120)
        packed = gr.DownloadButton("session.zip", size="sm", elem_id="packed", visible=False, min_width=120)
        share = gr.Button("Link to these settings", size="sm", elem_id="share", min_width=160)
    link = gr.Textbox(label="link", buttons=["copy"], interactive=False, visible=False, elem_id="link")
    with gr.Row():
        left = gr.Dropdown([], label="pin", elem_id="pin-left", min_width=200)
        right = gr.Dropdown([], label="beside", elem_id="pin-right", min_width=200)
    pinned = gr.HTML(empty_html("Nothing pinned", "Choose two runs to see where they differ."), elem_id="pinned")
    with gr.Row():
        maps = [take_away_plot(f"pin-map-{side}", min_width=300) for side in ("left", "right")]
    with gr.Row():
        offs = [take_away_plot(f"pin-off-{side}", min_width=300) for side in ("left", "right")]
    return RunsParts(history, notes, save, upload, pack, packed, left, right, pinned, maps, offs, link, share)


def show(parts: RunsParts, run: Run) -> Updates:
    return {box: run.notes[part] for part, box in parts.notes.items()}


def show_runs(parts: RunsParts, runs: list[Run]) -> Updates:
    choices = run_choices(runs)
    return {
        parts.history: history_rows(runs),
        parts.left: gr.Dropdown(choices),
        parts.right: gr.Dropdown(choices),
    }


def wire(page: Page, desk: Desk) -> None:
    parts = page.part(RunsParts)

    @told
    def show(request: gr.Request, chosen: gr.SelectData) -> dict:
        run = desk.store.get(session_of(request), str(chosen.row_value[0]))
        return show_run(page, desk, session_of(request), run)

    @told
    def upload(paths: list[str], request: gr.Request) -> dict:
        """Open the files of a run, or a session's zip, as runs of this session, and show the newest of them."""
        files = [Path(path) for path in paths]
        if len(files) == 1 and files[0].suffix == ".zip":
            run = desk.service.open_zip(session_of(request), files[0])
        else:
            run = desk.service.open_files(session_of(request), files, [file.name for file in files])
        return show_run(page, desk, session_of(request), run)

    @told
    def pin(left: str, right: str, request: gr.Request) -> list[Any]:
        if not (left and right):
            return [empty_html("One more", "Choose a second run to see where they differ."), *[drawn(None)] * 4]
        runs = [desk.store.get(session_of(request), name) for name in (left, right)]
        largest = max(largest_delta(run, "stress") for run in runs) or None
        return [
            pinned_html(*runs),
            *map(drawn, _maps(desk, runs)),
            *(drawn(off_figure(run, "stress", [], largest)) for run in runs),
        ]

    @told
    def save(run_id: str, name: str, tags: str, text: str, request: gr.Request) -> dict:
        run = run_of(desk, request, run_id)
        if run.note == "example":
            raise CedKVError("the example is everyone's; make a run of your own to name it")
        run.note_down(name=name, tags=tags, text=text)
        runs = desk.store.runs(session_of(request))
        return {page.headline: headline_html(run), **show_runs(parts, runs)}

    @told
    def pack(request: gr.Request) -> Any:
        return gr.DownloadButton(value=str(desk.service.pack(session_of(request))), visible=True)

    parts.pack.click(pack, None, parts.packed, **DRAWING)
    saved = [page.headline, parts.history, parts.left, parts.right]
    parts.save.click(save, [page.run_id, *parts.notes.values()], saved, **DRAWING)
    # The columns answer for the run that is shown: another one is asked Compare's query again.
    again = comparing(page, desk, quiet=True)
    parts.history.select(show, None, page.shown(), **DRAWING).success(**again)
    parts.upload.upload(upload, parts.upload, page.shown(), api_name="open", **_OPENING).success(**again)
    pinned = [parts.pinned, *parts.maps, *parts.offs]
    gr.on([parts.left.input, parts.right.input], pin, [parts.left, parts.right], pinned, **DRAWING)
    _wire_link(page, desk)


def _wire_link(page: Page, desk: Desk) -> None:
    parts, setup, asking = page.part(RunsParts), page.setup, page.part(CompareParts)

    @told
    def link(query: str, plain: bool, *rail: Any) -> Any:
        return gr.Textbox(value=permalink(desk, read_request(setup.form, rail), query, plain), visible=True)

    linked = parts.share.click(link, [asking.query, asking.plain, *setup.inputs()], parts.link, **DRAWING)
    linked.then(None, parts.link, parts.link, js=_TO_ADDRESS_BAR, **DRAWING)


def permalink(desk: Desk, asked: Request, query: str, plain: bool) -> str:
    """The part of an address that restores these settings, also after a restart."""
    parameters = {"settings": compact_yaml(asked.config), "method": asked.method, "query": query}
    parameters["plain"] = "1" if plain else ""
    if asked.own or asked.demos != desk.service.task_demos(asked.config):
        parameters["demos"] = demos_as_lines(asked.demos)
    return "?" + urlencode({name: value for name, value in parameters.items() if value})


def _maps(desk: Desk, runs: list[Run]) -> list[Any]:
    """The slots of runs on one scale; None for one without slots or with free ones."""
    maps = [
        desk.service.slot_map(run, run.student) if run.student and run.prefix(run.student).mixture else None
        for run in runs
    ]
    top = max((weight for slots in maps if slots for row in slots.weights for weight in row), default=0) or None
    return [slots and slot_heatmap(slots.weights, slots.texts, slots.roles, named=False, top=top) for slots in maps]


def history_rows(runs: list[Run]) -> list[list[Any]]:
    return [_history_row(run) for run in runs]


def run_choices(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """Options of a dropdown: what a run is, which fits where its name is cut, and its name."""
    return [(run_label(run), run.id) for run in runs]


def run_label(run: Run) -> str:
    """What its user calls a run, when it began, its task, its method and its slots."""
    began = re.match(r"\d{8}-(\d\d)(\d\d)", run.id)
    when = f"{began[1]}:{began[2]} · " if began else ""
    report, name = run.report, run.notes["name"]
    when = f"{name} · {when}" if name else when
    return f"{when}{task_name(report)} · {view_name(run.made_by)} · S={report['slots_budget']}"


def pinned_html(left: Run, right: Run) -> str:
    """What two runs are, their metrics and their settings; rows that differ carry a mark."""
    rows = [*_identity_rows(left, right), *_metric_rows(left, right), *_setting_rows(left, right)]
    body = "".join(
        f'<tr class="{"differs" if a != b else ""}"><td>{"≠" if a != b else ""}</td><td>{esc(name)}</td>'
        f"<td>{esc(a)}</td><td>{esc(b)}</td></tr>"
        for name, a, b in rows
    )
    head = f"<tr><th></th><th></th><th>{esc(left.id)}</th><th>{esc(right.id)}</th></tr>"
    return (
        f'<div class="ck ck-scroll"><table class="ck-pinned"><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    )


def _history_row(run: Run) -> list[Any]:
    report, student = run.report, run.student
    on, stress = report.get("on", {}).get(student), report.get("off", {}).get(student, {}).get("stress")
    if not report.get("gate_b"):
        verdict = "cancelled" if run.cancelled else "not judged"
    else:
        verdict = "passed" if report["passed"] else "failed"
    return [
        run.id, run.notes["name"], run.notes["tags"],
        task_name(report), view_name(run.made_by), report["slots_budget"],
        *map(_rounded, (on.get("accuracy"), on.get("whole_answer"), on.get("kl_to_teacher")) if on else (None,) * 3),
        _rounded(stress and stress.get("delta_p99")), verdict,
    ]  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _identity_rows(left: Run, right: Run) -> Iterator[tuple[str, str, str]]:
    for name in ("task", "method", "S", "verdict"):
        a, b = (_history_row(run)[HEADERS.index(name)] for run in (left, right))
        yield name, str(a), str(b)


def _metric_rows(left: Run, right: Run) -> Iterator[tuple[str, str, str]]:
    for name, path in _METRICS.items():
        yield name, number(_metric(left, path)), number(_metric(right, path))


def _metric(run: Run, path: tuple[str, ...]) -> float | None:
    value: Any = run.report
    for name in (path[0], run.student, *path[1:]):
        value = value.get(name) if value else None
    return value


def _setting_rows(left: Run, right: Run) -> Iterator[tuple[str, str, str]]:
    """The settings in which the runs differ."""
    for path in setting_paths():
        a, b = (str(shown(value_of(run.config, path))) for run in (left, right))
        if a != b:
            yield (path, Path(a).name, Path(b).name) if path in _FILES else (path, a, b)


TAB = Tab("Runs", "runs", build, show, show_runs=show_runs, wire=wire)
