"""A part of Slots: the chosen slot switched off or swapped, a mixing desk for all, and the answers that follow."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from cedkv.errors import CedKVError
from cedkv.session.runs import Run
from components.desk import Desk
from components.handlers import DRAWING, SHORT_QUEUE, moved_on, run_of, session_of, told, told_stream
from components.headline import empty_html
from components.slot_text import change_name
from components.tabs.compare import CompareParts, comparing, comparison_html
from components.tabs.frame import Page, Updates, show_run
from components.tabs.runs import run_label
from components.text import esc
from components.theme import slot_mark, view_name

_NOTHING_CHANGED = empty_html("Nothing changed yet", "Move a fader, or choose a slot above and switch it off.")
# The row stands beside the slot’s tokens; the answers that follow are brought into sight.
_TO_EFFECT = "() => document.querySelector('#effect')?.scrollIntoView({block: 'nearest', behavior: 'smooth'})"
# The faders are the page's own; every change of one tells all of them. A solo slot mutes the others until it is let go.
_DESK = """
const rows = () => [...element.querySelectorAll('[data-fader]')];
const on = (row, name) => row.querySelector(`[data-${name}]`).getAttribute('aria-pressed') === 'true';
const tell = () => {
  const solo = rows().some((row) => on(row, 'solo'));
  const silent = (row) => on(row, 'mute') || (solo && !on(row, 'solo'));
  const factors = rows().map((row) => silent(row) ? 0 : Number(row.querySelector('input').value));
  rows().forEach((row, slot) => {
    row.dataset.factor = factors[slot];
    row.dataset.changed = factors[slot] !== 1;
    row.querySelector('output').value = '× ' + factors[slot].toFixed(1);
  });
  trigger('input');
};
element.addEventListener('change', tell);
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-mute], [data-solo]');
  if (!button) return;
  button.setAttribute('aria-pressed', button.getAttribute('aria-pressed') !== 'true');
  tell();
});
// Of another state that comes, gradio sees no change in a fader, whose place is no attribute.
new MutationObserver(() => rows().forEach((row) => { row.querySelector('input').value = 1; }))
  .observe(element, {attributeFilter: ['data-of'], subtree: true});
"""
# What the faders say when it is their turn: an event that waits for another keeps the data that it came with.
_FACTORS = """(...given) => [
  ...given.slice(0, -1),
  [...document.querySelectorAll('#faders [data-fader]')].map((row) => Number(row.dataset.factor ?? 1)),
]"""


@dataclass(frozen=True)
class EditRow:
    """What can be done to the chosen slot."""

    ablate: gr.Button
    swap_run: gr.Dropdown
    swap_slot: gr.Number
    swap: gr.Button


@dataclass(frozen=True)
class Steering:
    """`factors` brings what the desk's faders say from the page."""

    edit: EditRow
    faders: gr.HTML
    factors: gr.JSON
    keep: gr.Button
    effect: gr.HTML

    def reset(self) -> list[Component]:
        """What starts anew with every state."""
        return [self.faders, self.keep, self.effect]

    def shown(self) -> list[Component]:
        return [*self.reset(), self.edit.swap_run]


def build_edit_row() -> EditRow:
    with gr.Column(elem_id="edit-row", min_width=240):
        ablate = gr.Button("Switch off the chosen slot", size="sm", elem_id="ablate")
        with gr.Row(equal_height=True):
            swap_run = gr.Dropdown([], label="or take it from run", elem_id="swap-run", min_width=150, scale=3)
            swap_slot = gr.Number(1, label="its slot", precision=0, minimum=1, min_width=70)
        swap = gr.Button("Swap", size="sm", elem_id="swap")
    return EditRow(ablate, swap_run, swap_slot, swap)


def build_steering(edit: EditRow) -> Steering:
    with gr.Accordion("change slots and ask Compare’s query again", open=True):
        faders = gr.HTML("", elem_id="faders", js_on_load=_DESK)
        keep = gr.Button("Keep as run", size="sm", elem_id="keep", visible=False)
        effect = gr.HTML(_NOTHING_CHANGED, elem_id="effect")
    return Steering(edit, faders, gr.JSON(visible=False), keep, effect)


def show_steering(parts: Steering, run: Run, method: str) -> Updates:
    """A state with all its faders at 1."""
    slots = run.prefix(method).slots if method else 0
    return {
        parts.faders: faders_html(slots, f"{run.id}/{method}"), parts.keep: gr.Button(visible=False),
        parts.effect: _NOTHING_CHANGED,
    }  # fmt: skip


def faders_html(slots: int, of: str) -> str:
    """Faders of a state, all at 1. `of` tells states apart: the page draws anew only what has changed."""
    rows = "".join(
        f'<div class="ck-fader" data-fader="{slot}"><span class="num">{slot_mark(slot - 1)}{slot}</span>'
        f'<input type="range" min="0" max="3" step="0.1" value="1" aria-label="values of slot {slot} times">'
        f'<output class="num">× 1.0</output><button data-mute aria-pressed="false">mute</button>'
        f'<button data-solo aria-pressed="false">solo</button></div>'
        for slot in range(1, slots + 1)
    )
    title = "mixing desk: what each slot’s values are multiplied by"
    return f'<div class="ck" data-of="{esc(of)}"><h3>{title}</h3><div class="ck-faders">{rows}</div></div>'


def wire_steering(page: Page, desk: Desk, parts: Steering, method: Component, slot: Component) -> None:
    """`method` and `slot` hold the state that is shown and the slot that is chosen, 0 for none."""
    asking = page.part(CompareParts)
    query = [page.run_id, method, asking.query, asking.plain]

    def answers(request: gr.Request, run_id: str, asked: str, plain: bool, change: Any, name: str) -> Iterator[str]:
        run = run_of(desk, request, run_id)
        for comparison in desk.service.iter_compare(session_of(request), run_id, asked, (), plain, change):
            if moved_on(desk, request, run_id):
                return
            yield comparison_html(comparison, run.student, name)

    @told_stream
    def mix(
        run_id: str, method: str, asked: str, plain: bool, factors: list[float], request: gr.Request
    ) -> Iterator[tuple]:
        change, keep = desk.service.mix(factors, method), gr.Button(visible=True)
        for shown in answers(request, run_id, asked, plain, change, f"{view_name(method)}, {change.told()}"):
            yield shown, keep

    def changing(swapping: bool) -> Callable:
        @told_stream
        def change(
            run_id: str, method: str, asked: str, plain: bool, slot: float, other: str, other_slot: float,
            request: gr.Request,
        ) -> Iterator[str]:  # fmt: skip
            if slot < 1:
                raise CedKVError("choose a slot first: slide it, or click a token or a cell")
            if swapping and not other:
                raise CedKVError("choose the run to take the slot from")
            taken = (other, int(other_slot or 1)) if swapping else ("", 1)
            factor = 1.0 if swapping else 0.0
            source = run_label(desk.store.get(session_of(request), other)) if swapping else ""
            name = change_name(method, int(slot), factor, source, taken[1])
            asked_for = desk.service.slot_change(int(slot), factor, *taken, method)
            yield from answers(request, run_id, asked, plain, asked_for, name)

        return change

    @told
    def keep(run_id: str, method: str, factors: list[float], request: gr.Request) -> dict:
        run = desk.service.keep(session_of(request), run_id, desk.service.mix(factors, method))
        return show_run(page, desk, session_of(request), run)

    parts.faders.input(
        mix, [*query, parts.factors], [parts.effect, parts.keep], js=_FACTORS, show_progress="minimal",
        trigger_mode="always_last", **SHORT_QUEUE,
    )  # fmt: skip
    edit = parts.edit
    chosen = [*query, slot, edit.swap_run, edit.swap_slot]
    for button, swapping in ((edit.ablate, False), (edit.swap, True)):
        changed = button.click(changing(swapping), chosen, parts.effect, show_progress="minimal", **SHORT_QUEUE)
        changed.success(None, js=_TO_EFFECT)
    kept = parts.keep.click(keep, [page.run_id, method, parts.factors], page.shown(), js=_FACTORS, **DRAWING)
    kept.success(**comparing(page, desk, quiet=True))
