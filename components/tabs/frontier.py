"""Frontier: a sweep's map of how much a setting gets right against what it does to other text; points lead to runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from cedkv.errors import CedKVError
from cedkv.session.limits import LimitError
from cedkv.session.runs import Run
from components.desk import Desk
from components.handlers import DRAWING, OPENING, drawn, session_of, told
from components.headline import empty_html
from components.plots import take_away_plot
from components.tabs.compare import comparing
from components.tabs.frame import Page, Tab, show_run
from components.text import esc
from components.theme import view_name

if TYPE_CHECKING:
    from cedkv.sweep.tables import Point, Row

HEADERS = ["method", "S", "settings", "of the teacher’s", "whole answer", "KL", "OFF p99", "judged on", "front"]
_NUMBERS = {"S", "of the teacher’s", "whole answer", "KL", "OFF p99"}
_NOTHING = empty_html(
    "No sweep open", "python -m cedkv sweep --config FILE makes one; open its folder, or the sweep.json in it."
)


@dataclass(frozen=True)
class FrontierParts:
    path: gr.Textbox
    open: gr.Button
    file: gr.UploadButton
    note: gr.HTML
    plot: gr.Plot
    table: gr.Dataframe
    run: gr.Dropdown
    show: gr.Button
    opened: gr.State

    def shown(self) -> list[Component]:
        return []

    def drawn(self) -> list[Component]:
        """What changes when another sweep is opened."""
        return [self.note, self.plot, self.table, self.run, self.opened]


def build(opening: Run | None) -> FrontierParts:
    with gr.Row(elem_classes="ck-fields"):
        path = gr.Textbox(label="folder of a sweep on this machine", elem_id="sweep-path", scale=4, lines=1)
        open = gr.Button("Open", size="sm", elem_id="sweep-open", min_width=80)
        file = gr.UploadButton("A sweep.json", size="sm", file_types=[".json"], elem_id="sweep-file", min_width=120)
    note = gr.HTML(_NOTHING, elem_id="sweep-note")
    plot = take_away_plot("frontier")
    table = gr.Dataframe(
        headers=HEADERS, interactive=False, wrap=True, type="array", elem_id="sweep-points", max_height=360,
        label="means over tasks and seeds; a click offers the runs behind one",
        datatype=["number" if name in _NUMBERS else "str" for name in HEADERS],
    )  # fmt: skip
    with gr.Row(elem_classes="ck-fields"):
        run = gr.Dropdown([], label="run", elem_id="sweep-run", min_width=240, scale=4)
        show = gr.Button("Show this run", size="sm", elem_id="sweep-show", min_width=120)
    return FrontierParts(path, open, file, note, plot, table, run, show, gr.State({}))


def note_html(rows: list["Row"], points: list["Point"]) -> str:
    """What the sweep is, and which cells have failed."""
    tasks, seeds = ({row[name] for row in rows} for name in ("task", "seed"))
    best = [point for point in points if point["front"]]
    where = " and ".join(f"{len(of)} {name}{'s' * (len(of) != 1)}" for name, of in (("task", tasks), ("seed", seeds)))
    said = f"{len(rows)} cells on {where}; {len(best)} points that nothing beats."
    failed = [row for row in rows if row["error"]]
    why = "".join(
        f'<p class="ck-note error">{esc(row["task"])}, seed {row["seed"]}, {esc(view_name(row["method"]))}: '
        f"{esc(row['error'])}</p>"
        for row in failed[:8]
    )
    more = f'<p class="ck-note error">{len(failed) - 8} more failed</p>' if len(failed) > 8 else ""
    return f'<div class="ck"><p class="ck-note">{said} Best is the upper left.</p>{why}{more}</div>'


def table_rows(points: list["Point"]) -> list[list[Any]]:
    return [
        [
            view_name(point["method"]), point["slots"],
            ", ".join(f"{path} = {value}" for path, value in point["settings"].items() if path != "phase3.slots"),
            *(None if value is None else round(value, 3) for value in (
                point["share"], point["whole_answer"], point["kl_to_teacher"], point["off_p99"],
            )),
            f"{point['episodes']} of {point['of']}", "front" if point["front"] else "",
        ]
        for point in points
    ]  # fmt: skip


def opened(path: Path, name: str, folder: Path | None) -> list[Any]:
    """The updates of `FrontierParts.drawn` for a sweep.json; with its `folder` its runs can be shown."""
    from cedkv.sweep.plot import frontier_figure
    from cedkv.sweep.tables import points, read_rows

    rows = read_rows(path, name)
    found = points(rows)
    runs = [point["runs"] if folder else [] for point in found]
    state = {"folder": str(folder or ""), "runs": runs}
    return [
        note_html(rows, found),
        drawn(frontier_figure(found)),
        table_rows(found),
        gr.Dropdown([], value=None),
        state,
    ]


def run_files(folder: str, name: str) -> list[Path]:
    """The files of a run of a sweep.

    Raises
    ------
    CedKVError
        They are not there.
    """
    runs = Path(folder, "runs")
    run = next((path for path in sorted(runs.glob("*")) if path.name == name), None) if folder and name else None
    files = [run / "config.yaml", run / "report_extract.json", *run.glob("artifacts/*.safetensors")] if run else []
    if not files or not all(file.is_file() for file in files):
        raise CedKVError(f"run {name!r} is not in the sweep’s folder; open the folder that the sweep was written to")
    return files


def wire(page: Page, desk: Desk) -> None:
    parts = page.part(FrontierParts)

    @told
    def open_folder(path: str) -> list[Any]:
        if not desk.limits.allow_paths:
            raise LimitError("this deployment opens no paths; open the sweep.json itself instead")
        folder = Path(path.strip() or "runs/sweep")
        return opened(folder / "sweep.json", str(folder / "sweep.json"), folder)

    @told
    def open_file(path: str) -> list[Any]:
        desk.limits.check_upload(Path(path))
        return opened(Path(path), Path(path).name, None)

    @told
    def offer(state: dict, chosen: gr.SelectData) -> Any:
        runs = state["runs"][chosen.index[0]]
        return gr.Dropdown(runs, value=runs[0] if runs else None)

    @told
    def show(state: dict, name: str | None, request: gr.Request) -> dict:
        files = run_files(state.get("folder", ""), name or "")
        run = desk.service.open_files(session_of(request), files, [file.name for file in files])
        return show_run(page, desk, session_of(request), run)

    gr.on([parts.open.click, parts.path.submit], open_folder, parts.path, parts.drawn(), **OPENING)
    parts.file.upload(open_file, parts.file, parts.drawn(), **OPENING)
    parts.table.select(offer, parts.opened, parts.run, **DRAWING)
    shown = parts.show.click(show, [parts.opened, parts.run], page.shown(), **OPENING)
    shown.success(**comparing(page, desk, quiet=True))


TAB = Tab("Frontier", "frontier", build, wire=wire)
