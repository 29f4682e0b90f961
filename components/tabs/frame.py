"""What every part of the page shows of one run."""

from typing import Any

import gradio as gr

from cedkv.session.runs import Run
from components.desk import Desk
from components.figures import role_bars, similarity_matrix, slot_heatmap
from components.handlers import drawn
from components.headline import empty_html, headline_html
from components.page import Page
from components.report_page import report_page
from components.tabs.collapse import collapse_html
from components.tabs.compare import even_widths, on_table, table_label
from components.tabs.gate import gate_html
from components.tabs.off_effect import beside, off_figure, worst_rows
from components.tabs.runs import history_rows, run_choices
from components.tabs.slots import NOTHING_CHANGED, demo_text_html, scope_options, slot_card_html
from components.tabs.training import read_training, trained_methods, training_figure, training_html
from components.theme import view_choices


def show_run(page: Page, desk: Desk, session: str, run: Run) -> dict:
    """The updates that put a run on the page; `Page.shown` are its keys."""
    return {**show_files(page, desk, session, run), **show_states(page, desk, run)}


def show_files(page: Page, desk: Desk, session: str, run: Run) -> dict:
    """What the report and the records of a run tell, which is shown from now on; the engine need not be there yet."""
    desk.store.show(session, run)
    others = [name for name in run.methods if name != run.student]
    views, chosen = beside(run)
    table = on_table(run)
    trained = trained_methods(run)
    training = read_training(run, next(iter(trained), ""))
    return {
        page.run_id: run.id,
        page.headline: headline_html(run),
        page.compare.views: gr.CheckboxGroup(view_choices(others), value=[]),
        page.compare.table: gr.Dataframe(
            table, label=table_label(run), column_widths=even_widths(len(table["headers"]))
        ),
        page.off.note: gr.HTML(visible=not judged_off(run)),
        page.off.also: gr.CheckboxGroup(views, value=chosen),
        page.off.histograms: drawn(off_figure(run, "stress", chosen)),
        page.off.worst: worst_rows(run, "stress"),
        page.training.note: training_html(training),
        page.training.method: gr.Radio(
            view_choices(trained), value=next(iter(trained), None), visible=len(trained) > 1
        ),
        page.training.curves: drawn(training_figure(training)),
        page.gate.table: gate_html(run),
        **_downloads(page, run),
        **show_history(page, desk, session),
    }


def show_states(page: Page, desk: Desk, run: Run) -> dict:
    """What the states of a run tell, read by the engine."""
    command, python = desk.service.reproduce(run)
    return {page.gate.command: command, page.gate.python: python, **_slots(page, desk, run)}


def show_history(page: Page, desk: Desk, session: str) -> dict:
    """The list of runs wherever runs can be chosen."""
    runs = desk.store.runs(session)
    choices = run_choices(runs)
    return {
        page.runs.history: history_rows(runs),
        page.runs.left: gr.Dropdown(choices),
        page.runs.right: gr.Dropdown(choices),
        page.slots.swap_run: gr.Dropdown(run_choices(run for run in runs if run.methods)),
    }


def draw_slots(desk: Desk, run: Run, method: str, slot: int, layer: int, head: int) -> tuple[str, Any, str]:
    """Demonstration text, heatmap and card for a choice of slot (0: all), layer and KV head (0: mean)."""
    if not method:
        return (
            empty_html("No slots", "This run has no state file: it was cut short, or only its report was opened."),
            None,
            "",
        )
    if run.prefix(method).mixture is None:
        return (
            empty_html("Free slots", "These slots are free vectors: no demonstration token is behind them."),
            None,
            "",
        )
    slots = desk.service.slot_map(run, method, layer - 1 if layer else None, head - 1 if head else None)
    slot = min(slot, len(slots.weights))
    cosine = desk.service.similarity(run, method)["values"]
    heatmap = slot_heatmap(slots.weights, slots.texts, slots.roles, slot - 1 if slot else None)
    return demo_text_html(slots, slot), heatmap, slot_card_html(slots, slot, cosine)


def judged_off(run: Run) -> bool:
    return run.student in run.report.get("off", {})


def _slots(page: Page, desk: Desk, run: Run) -> dict:
    tab, collapse = page.slots, page.collapse
    demos, heatmap, card = draw_slots(desk, run, run.student, 0, 0, 0)
    parts = {tab.demos: demos, tab.heatmap: drawn(heatmap), tab.card: card, collapse.verdict: collapse_html(run)}
    parts[tab.method] = gr.Radio(view_choices(run.methods), value=run.student or None)
    parts[tab.effect] = NOTHING_CHANGED
    if not run.student:
        empty = {plot: drawn(None) for plot in (collapse.values, collapse.keys, collapse.attribution, collapse.roles)}
        return {**parts, **empty, **{slider: gr.Slider(value=0) for slider in (tab.slot, tab.layer, tab.head)}}
    prefix = run.prefix(run.student)
    alike = desk.service.similarity(run, run.student)
    layer, head = scope_options(*desk.service.mixture_scope(run, run.student))
    overlap = alike.get("attribution")
    return {
        **parts,
        tab.slot: gr.Slider(maximum=prefix.slots, value=0),
        tab.layer: gr.Slider(**layer),
        tab.head: gr.Slider(**head),
        collapse.values: drawn(similarity_matrix(alike["values"], "cosine of values")),
        collapse.keys: drawn(similarity_matrix(alike["keys"], "cosine of keys")),
        collapse.attribution: drawn(overlap and similarity_matrix(overlap, "overlap of attribution", low=0)),
        collapse.roles: drawn(_role_figure(run)),
    }


def _role_figure(run: Run) -> Any:
    roles = run.report.get("role_mass", {}).get("slots")
    return role_bars(roles, run.config.phase3.mixture.delimiter.cap) if roles else None


def _downloads(page: Page, run: Run) -> dict:
    """Files to take along; the HTML report is written when a run is first shown."""
    standalone = run.folder / "report.html"
    if not standalone.is_file():
        standalone.write_text(report_page(run), encoding="utf-8")
    files = {
        "report": next(run.folder.glob("report_*.json"), None),
        "page": standalone,
        "state": run.state_file(run.student) if run.student else None,
        "config": run.folder / "config.yaml",
    }
    return {
        button: gr.DownloadButton(value=str(files[name]) if files[name] else None, interactive=files[name] is not None)
        for name, button in page.gate.downloads.items()
    }
