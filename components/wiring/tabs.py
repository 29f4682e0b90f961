"""Compare, Slots, OFF effect and Training: what a click in one of them changes there and elsewhere."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from cedkv.errors import CedKVError
from cedkv.session.runs import Run
from components.desk import Desk
from components.handlers import DRAWING, MODEL_QUEUE, drawn, told, told_stream
from components.page import Page
from components.tabs.compare import comparison_html, on_input
from components.tabs.frame import draw_slots
from components.tabs.off_effect import off_figure, worst_rows, worst_text
from components.tabs.slots import change_name, scope_options, slot_of_token
from components.tabs.training import read_training, training_figure, training_html

# A row far down the page fills the columns at its top: they are brought into sight.
_TO_QUERY = "() => document.querySelector('#query')?.scrollIntoView({block: 'center'})"


def run_of(desk: Desk, request: gr.Request, run_id: str) -> Run:
    """The run that is shown.

    Raises
    ------
    CedKVError
        There is none yet.
    """
    if not run_id:
        raise CedKVError("there is no run yet; press Run first")
    return desk.store.get(request.session_hash, run_id)


def comparing(page: Page, desk: Desk, quiet: bool = False) -> dict[str, Any]:
    """What an event needs to fill the columns. `quiet` says nothing without a run, as after a cancelled one."""

    @told_stream
    def compare(run_id: str, query: str, plain: bool, views: list[str], request: gr.Request) -> Iterator[Any]:
        if quiet and not (run_id and run_of(desk, request, run_id).student):
            yield gr.skip()
            return
        run = run_of(desk, request, run_id)
        for comparison in desk.service.iter_compare(request.session_hash, run_id, query, views, plain):
            yield comparison_html(comparison, run.student)

    shown = {"outputs": page.compare.columns, "show_progress": "minimal"}
    return {"fn": compare, "inputs": page.compare_inputs(), **shown, **MODEL_QUEUE}


def wire_compare(page: Page, desk: Desk) -> None:
    tab = page.compare
    gr.on([tab.ask.click, tab.query.submit, tab.views.input], **comparing(page, desk))

    @told
    def open_row(run_id: str, request: gr.Request, chosen: gr.SelectData) -> tuple[str, bool]:
        return on_input(run_of(desk, request, run_id), str(chosen.row_value[0])), False

    opened = tab.table.select(open_row, page.run_id, [tab.query, tab.plain], **DRAWING)
    opened.then(None, js=_TO_QUERY).then(**comparing(page, desk))


def wire_slots(page: Page, desk: Desk) -> None:
    tab = page.slots

    @told
    def draw(run_id: str, method: str, slot: float, layer: float, head: float, request: gr.Request) -> tuple[Any, ...]:
        run = run_of(desk, request, run_id)
        demos, heatmap, card = draw_slots(desk, run, method, int(slot), int(layer), int(head))
        return demos, drawn(heatmap), card

    @told
    def scope(run_id: str, method: str, request: gr.Request) -> tuple[Any, ...]:
        options = scope_options(*desk.service.mixture_scope(run_of(desk, request, run_id), method))
        return tuple(gr.Slider(**option) for option in options)

    @told
    def choose_token(
        run_id: str, method: str, layer: float, head: float, request: gr.Request, event: gr.EventData
    ) -> int:
        run, chosen = run_of(desk, request, run_id), [int(part) - 1 if part else None for part in (layer, head)]
        slots = desk.service.slot_map(run, method, *chosen)
        slot = slot_of_token(slots, min(int(event.token), len(slots.texts) - 1))
        if slot == 0:
            gr.Info("No slot takes anything from this token.", duration=3)
        return slot

    def choose_cell(event: gr.EventData) -> int:
        return int(event.slot)

    gr.on(
        [tab.slot.change, tab.layer.change, tab.head.change, tab.method.input],
        draw, [page.run_id, *tab.chosen()], tab.drawn(), trigger_mode="always_last", **DRAWING,
    )  # fmt: skip
    tab.method.input(scope, [page.run_id, tab.method], [tab.layer, tab.head], **DRAWING)
    tab.demos.click(choose_token, [page.run_id, tab.method, tab.layer, tab.head], tab.slot, **DRAWING)
    tab.clicks.click(choose_cell, None, tab.slot, **DRAWING)
    _wire_changes(page, desk)


def _wire_changes(page: Page, desk: Desk) -> None:
    """Switch off, scale and swap: the state that is shown with one slot changed, on Compare's query."""
    tab, compare = page.slots, page.compare

    def changing(factor_of: Callable[[float], float], swapping: bool) -> Callable:
        @told_stream
        def change(
            run_id: str,
            method: str,
            slot: float,
            factor: float,
            other: str,
            other_slot: float,
            query: str,
            plain: bool,
            request: gr.Request,
        ) -> Iterator[str]:
            run = run_of(desk, request, run_id)
            if slot < 1:
                raise CedKVError("choose a slot first: slide it, or click a token or a cell")
            if swapping and not other:
                raise CedKVError("choose the run to take the slot from")
            taken = (other, int(other_slot or 1)) if swapping else ("", 1)
            asked = desk.service.slot_change(int(slot), factor_of(factor), *taken, method)
            name = change_name(method, int(slot), factor_of(factor), *taken)
            for comparison in desk.service.iter_compare(request.session_hash, run_id, query, (), plain, asked):
                # The page may have moved on to another run, on which this answer has no place.
                if desk.store.shown(request.session_hash) != run_id:
                    return
                yield comparison_html(comparison, run.student, name)

        return change

    inputs = [page.run_id, tab.method, tab.slot, tab.factor, tab.swap_run, tab.swap_slot, compare.query, compare.plain]
    for button, factor_of, swapping in (
        (tab.ablate, lambda factor: 0.0, False),
        (tab.scale, lambda factor: factor, False),
        (tab.swap, lambda factor: 1.0, True),
    ):
        button.click(changing(factor_of, swapping), inputs, tab.effect, show_progress="minimal", **MODEL_QUEUE)


def wire_off(page: Page, desk: Desk) -> None:
    tab, compare = page.off, page.compare

    @told
    def draw(run_id: str, split: str, also: list[str], request: gr.Request) -> tuple[Any, Any]:
        run = run_of(desk, request, run_id)
        return drawn(off_figure(run, split, also)), worst_rows(run, split)

    @told
    def open_row(run_id: str, split: str, request: gr.Request, chosen: gr.SelectData) -> tuple[Any, ...]:
        text = worst_text(run_of(desk, request, run_id), split, str(chosen.row_value[3]))
        return text, True, gr.Tabs(selected="Compare")

    gr.on(
        [tab.split.input, tab.also.input],
        draw,
        [page.run_id, tab.split, tab.also],
        [tab.histograms, tab.worst],
        **DRAWING,
    )
    opened = tab.worst.select(
        open_row, [page.run_id, tab.split], [compare.query, compare.plain, page.tabs], **DRAWING
    )  # fmt: skip
    opened.then(None, js=_TO_QUERY).then(**comparing(page, desk))


def wire_training(page: Page, desk: Desk) -> None:
    tab = page.training

    @told
    def draw(run_id: str, method: str, request: gr.Request) -> tuple[Any, Any]:
        training = read_training(run_of(desk, request, run_id), method)
        return training_html(training), drawn(training_figure(training))

    tab.method.input(draw, [page.run_id, tab.method], [tab.note, tab.curves], **DRAWING)
