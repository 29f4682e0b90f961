"""Slots: what each one takes from the demonstrations, and what happens to the answers when it is changed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from cedkv.session.runs import Run
from components.desk import Desk
from components.figures import slot_heatmap
from components.handlers import DRAWING, drawn, run_of, told
from components.headline import empty_html, loading_html
from components.plots import take_away_plot
from components.slot_text import demo_text_html, slot_card_html, slot_of_token
from components.tabs.frame import Page, Tab, Updates
from components.tabs.runs import run_choices
from components.tabs.steering import Steering, build_edit_row, build_steering, show_steering, wire_steering
from components.theme import view_choices

# Plotly replaces its element with every new figure, so each one is hooked when it is first pointed at.
_HEATMAP_CLICKS = """
document.addEventListener('pointerover', (event) => {
  const plot = event.target.closest?.('#slot-heatmap .js-plotly-plot');
  if (!plot || plot.dataset.hooked || !plot.on) return;
  plot.dataset.hooked = '1';
  plot.on('plotly_click', (clicked) => trigger('click', {slot: clicked.points[0].y}));
});
"""
# A session that the server has forgotten sends values of its own state's sliders: here they are far within bounds, and
# what is beyond the state shown is read as its last slot, layer or head.
_WIDEST = 4096
_NO_SLOTS = empty_html("No slots yet", "Press Run: the demonstrations appear here, coloured by what slots take.")
_TOKEN_CLICKS = """
element.addEventListener('click', (event) => {
  const token = event.target.closest('[data-token]');
  if (token) trigger('click', {token: Number(token.dataset.token)});
});
"""


@dataclass(frozen=True)
class SlotsParts:
    method: gr.Radio
    layer: gr.Slider
    head: gr.Slider
    slot: gr.Slider
    demos: gr.HTML
    heatmap: gr.Plot
    clicks: gr.HTML
    card: gr.HTML
    steering: Steering

    def sliders(self) -> list[Component]:
        return [self.slot, self.layer, self.head]

    def chosen(self) -> list[Component]:
        """What the drawings depend on."""
        return [self.method, *self.sliders()]

    def drawn(self) -> list[Component]:
        return [self.demos, self.heatmap, self.card]

    def shown(self) -> list[Component]:
        return [*self.chosen(), *self.drawn(), *self.steering.shown()]


def build(opening: Run | None) -> SlotsParts:
    with gr.Row():
        slot = _slider("slot", "slot", "0 shows all of them together.")
        layer = _slider("layer", "layer", "0 is the mean over all layers.")
        head = _slider("KV head", "head", "0 is the mean over heads.", visible=False)
        method = gr.Radio([], label="state", elem_id="slot-method", min_width=160)
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            demos = gr.HTML(loading_html(opening, _NO_SLOTS), elem_id="demo-text", js_on_load=_TOKEN_CLICKS)
        with gr.Column(scale=3, min_width=280):
            card = gr.HTML("", elem_id="slot-card")
            edit = build_edit_row()
    heatmap = take_away_plot("slot-heatmap")
    clicks = gr.HTML("", js_on_load=_HEATMAP_CLICKS, elem_id="heatmap-clicks")
    return SlotsParts(method, layer, head, slot, demos, heatmap, clicks, card, build_steering(edit))


def _slider(label: str, name: str, info: str, visible: bool = True) -> gr.Slider:
    """Its end is set, and it can be moved, once there is a state."""
    return gr.Slider(
        0, _WIDEST, value=0, step=1, label=label, info=info, elem_id=name, min_width=220, interactive=False,
        visible=visible,
    )  # fmt: skip


def show_states(parts: SlotsParts, desk: Desk, run: Run) -> Updates:
    demos, heatmap, card = _drawings(desk, run, run.student, 0, 0, 0)
    drawings = {
        parts.demos: demos,
        parts.heatmap: drawn(heatmap),
        parts.card: card,
        parts.method: gr.Radio(view_choices(run.methods), value=run.student or None),
        **show_steering(parts.steering, run, run.student),
    }
    sliders = parts.sliders()
    if not run.student:
        return {**drawings, **{slider: gr.Slider(value=0, interactive=False) for slider in sliders}}
    options = slider_options(run.prefix(run.student).slots, *desk.service.mixture_scope(run, run.student))
    return {**drawings, **{slider: gr.Slider(**option) for slider, option in zip(sliders, options, strict=True)}}


def show_runs(parts: SlotsParts, runs: Iterable[Run]) -> Updates:
    return {parts.steering.edit.swap_run: gr.Dropdown(run_choices(run for run in runs if run.methods))}


def wire(page: Page, desk: Desk) -> None:
    parts = page.part(SlotsParts)

    @told
    def draw(run_id: str, method: str, slot: float, layer: float, head: float, request: gr.Request) -> tuple[Any, ...]:
        run = run_of(desk, request, run_id)
        demos, heatmap, card = _drawings(desk, run, method, int(slot), int(layer), int(head))
        return demos, drawn(heatmap), card

    @told
    def scope(run_id: str, method: str, slot: float, request: gr.Request) -> tuple[Any, ...]:
        run = run_of(desk, request, run_id)
        options = slider_options(run.prefix(method).slots, *desk.service.mixture_scope(run, method), slot=int(slot))
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
        [parts.slot.change, parts.layer.change, parts.head.change, parts.method.input],
        draw, [page.run_id, *parts.chosen()], parts.drawn(), trigger_mode="always_last", **DRAWING,
    )  # fmt: skip
    parts.method.input(scope, [page.run_id, parts.method, parts.slot], parts.sliders(), **DRAWING)
    parts.demos.click(choose_token, [page.run_id, parts.method, parts.layer, parts.head], parts.slot, **DRAWING)
    parts.clicks.click(choose_cell, None, parts.slot, **DRAWING)

    @told
    def another_state(run_id: str, method: str, request: gr.Request) -> Updates:
        return show_steering(parts.steering, run_of(desk, request, run_id), method)

    parts.method.input(another_state, [page.run_id, parts.method], parts.steering.reset(), **DRAWING)
    wire_steering(page, desk, parts.steering, parts.method, parts.slot)


def _drawings(desk: Desk, run: Run, method: str, slot: int, layer: int, head: int) -> tuple[str, Any, str]:
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


def slider_options(slots: int, layers: int, heads: int, slot: int = 0) -> list[dict[str, Any]]:
    """The sliders of slot, layer and head for a state: what is shared has nothing to slide.

    slot : the one looked at, kept as far as the state has as many.
    """
    return [
        {"maximum": slots, "interactive": True, "value": min(slot, slots)},
        {"maximum": layers, "interactive": layers > 1, "value": 0},
        {"maximum": max(heads, 2), "interactive": heads > 1, "visible": heads > 1, "value": 0},
    ]


TAB = Tab("Slots", "slots", build, show_states=show_states, show_runs=show_runs, wire=wire)
