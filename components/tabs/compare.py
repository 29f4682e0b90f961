"""Compare: one query in several views, side by side. Every other tab leads here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from cedkv.session.runs import Run
from cedkv.session.views import Comparison, View
from components.desk import Desk
from components.example import QUERY, example_comparison, example_why
from components.handlers import DRAWING, SHORT_QUEUE, moved_on, run_of, session_of, told, told_stream
from components.headline import empty_html, how_to_judge
from components.tabs.frame import Page, Tab, Updates
from components.text import esc, number, percent, token, visible
from components.theme import view_choices, view_color, view_name
from components.why_text import nothing_why_html, why_html

# A row far down the page fills the columns at its top: they are brought into sight.
TO_QUERY = "() => document.querySelector('#query')?.scrollIntoView({block: 'center'})"
# Clicks and arrow keys choose a token or a slot, counted from what was chosen and not from what is drawn so far. Gradio
# changes in place what differs, so the keyboard is taken along.
_WHY_KEYS = """
let chosen = null, button = '';
const drawn = (name) => Number(element.querySelector('.ck-why')?.dataset[name]);
const isDrawn = (choice) => Object.entries(choice).every(([name, place]) => drawn(name) === place);
const at = (name) => chosen?.[name] ?? drawn(name);
const choose = (kind, place) => {
  const wanted = `[data-why-${kind}="${place}"]`;
  if (!element.querySelector(wanted)) return;
  chosen = kind === 'token' ? {at: place} : {at: at('at'), slot: place};
  button = wanted;
  element.dataset.chosen = JSON.stringify([chosen.at, chosen.slot ?? -1]);
  trigger('click');
};
element.addEventListener('click', (event) => {
  const {whyToken, whySlot} = event.target.closest('button')?.dataset ?? {};
  if (whyToken) choose('token', Number(whyToken));
  if (whySlot) choose('slot', Number(whySlot));
});
element.addEventListener('keydown', (event) => {
  const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1}[event.key];
  if (!step || !event.target.closest('.ck-why button')) return;
  event.preventDefault();
  const kind = ['ArrowLeft', 'ArrowRight'].includes(event.key) ? 'token' : 'slot';
  choose(kind, at(kind === 'token' ? 'at' : 'slot') + step);
});
new MutationObserver(() => {
  if (!element.querySelector('.ck-why')) chosen = null;
  if (!chosen) return;
  element.querySelector(button)?.focus({preventScroll: true});
  if (isDrawn(chosen)) chosen = null;
}).observe(element, {attributeFilter: ['data-at', 'data-slot'], characterData: true, childList: true, subtree: true});
"""
# What is chosen when it is its turn: an event that waits for another keeps the data that it came with.
_CHOSEN = "() => [JSON.parse(document.querySelector('#why[data-chosen], #why [data-chosen]').dataset.chosen)]"
_EXPLAINED_LATER = {
    False: nothing_why_html("Explained once the answer is there."),
    True: nothing_why_html("The answer is there; explaining it…"),
}
# Of a query that no part of the page has made up, so that it stays when a run of another task is shown.
NOT_SUGGESTED = ("", "")
_TABLE_LABEL = "unseen queries of the gate; ✓ whole answer right, ~ first token only; a click opens one above"


@dataclass(frozen=True)
class CompareParts:
    """The tab's components. `chosen` brings the token and the slot of the explanation from the page.

    `linked` is the query that came with a link, `suggested` the task and the query that the page has put there itself;
    what a user has typed stays.
    """

    query: gr.Textbox
    plain: gr.Checkbox
    views: gr.CheckboxGroup
    ask: gr.Button
    columns: gr.HTML
    why: gr.HTML
    chosen: gr.JSON
    table: gr.Dataframe
    linked: gr.State
    suggested: gr.State

    def shown(self) -> list[Component]:
        return [self.views, self.columns, self.why, self.table]


def build(opening: Run | None) -> CompareParts:
    suggestion = (opening.report["episode"]["task"] if opening else "", QUERY)
    with gr.Row(elem_classes="ck-ask"):
        query = gr.Textbox(
            label="query", value=QUERY, elem_id="query", scale=4, min_width=200, submit_btn=False, max_lines=4
        )
        ask = gr.Button("Compare", variant="primary", elem_id="ask", scale=0, min_width=96)
    with gr.Row():
        plain = gr.Checkbox(
            False, label="as plain text, without the template", container=False, elem_id="plain",
            info="For text that asks nothing of the relation: the slots should leave it as it is.",
        )  # fmt: skip
        views = gr.CheckboxGroup([], label="further columns", container=False, show_label=False, elem_id="views")
    columns = gr.HTML(_opening_columns(opening), elem_id="columns")
    why = gr.HTML(_opening_why(opening), elem_id="why", js_on_load=_WHY_KEYS)
    chosen = gr.JSON(visible=False)
    table = gr.Dataframe(
        headers=["input", "gold"], interactive=False, wrap=True, type="array", elem_id="on-table", max_height=360,
        label="loading the example…" if opening else _TABLE_LABEL, show_search="filter",
    )  # fmt: skip
    return CompareParts(query, plain, views, ask, columns, why, chosen, table, gr.State(""), gr.State(suggestion))


def show(parts: CompareParts, run: Run) -> Updates:
    """What was answered before is another run's. The example comes with an answer, as the page opened."""
    others = [name for name in run.methods if name != run.student]
    table, example = on_table(run), run if run.note == "example" else None
    widths = even_widths(len(table["headers"]))
    return {
        parts.columns: _opening_columns(example), parts.why: _opening_why(example),
        parts.views: gr.CheckboxGroup([(f"also {label}", view) for label, view in view_choices(others)], value=[]),
        parts.table: gr.Dataframe(table, label=table_label(run), column_widths=widths),
    }  # fmt: skip


def wire(page: Page, desk: Desk) -> None:
    parts = page.part(CompareParts)
    gr.on([parts.ask.click, parts.query.submit, parts.views.input], **comparing(page, desk))

    @told
    def open_row(run_id: str, request: gr.Request, chosen: gr.SelectData) -> tuple[str, bool]:
        return on_input(run_of(desk, request, run_id), str(chosen.row_value[0])), False

    opened = parts.table.select(open_row, page.run_id, [parts.query, parts.plain], **DRAWING)
    opened.then(None, js=TO_QUERY).then(**comparing(page, desk))

    def look(chosen: list[int], request: gr.Request) -> Any:
        why, (token, slot) = desk.store.explained(session_of(request)) or example_why(), chosen
        return why_html(why, token, slot if slot >= 0 else None)

    parts.why.click(look, parts.chosen, parts.why, js=_CHOSEN, trigger_mode="always_last", **DRAWING)


def comparing(page: Page, desk: Desk, quiet: bool = False) -> dict[str, Any]:
    """What an event needs to fill the columns. `quiet` says nothing without a run, as after a cancelled one."""
    parts = page.part(CompareParts)

    @told_stream
    def compare(
        run_id: str, query: str, plain: bool, views: list[str], suggested: tuple[str, str], request: gr.Request
    ) -> Iterator[Any]:
        if quiet and not (run_id and run_of(desk, request, run_id).student):
            yield (gr.skip(),) * 4
            return
        run, session, asks = run_of(desk, request, run_id), session_of(request), (gr.skip(), gr.skip())
        if quiet and (better := next_query(run, query, suggested)):
            query, asks = better[1], (better[1], better)
        for comparison in desk.service.iter_compare(session, run_id, query, views, plain):
            if moved_on(desk, request, run_id):
                return
            # An explanation of what was asked before must not stand below this answer.
            yield comparison_html(comparison, run.student), _EXPLAINED_LATER[comparison.done], *asks
            asks = gr.skip(), asks[1]
        why = desk.service.explain(session, run_id, comparison, plain)
        if moved_on(desk, request, run_id):
            return
        yield comparison_html(comparison, run.student), why_html(why), *asks

    asked = [page.run_id, parts.query, parts.plain, parts.views, parts.suggested]
    filled = [parts.columns, parts.why, parts.query, parts.suggested]
    return {
        "fn": compare, "inputs": asked, "outputs": filled, "show_progress": "minimal",
        "show_progress_on": parts.columns, **SHORT_QUEUE,
    }  # fmt: skip


def next_query(run: Run, query: str, suggested: tuple[str, str]) -> tuple[str, str] | None:
    """Task and query to ask of a run of another task than before; None where the query may stay as it is."""
    task, put = suggested
    episode = run.report["episode"]
    judged = (sample["input"] for sample in run.samples if sample["kind"] == "on")
    first = episode.get("a_query") or next(judged, None)
    return (episode["task"], first) if query == put and first and episode["task"] != task else None


def on_table(run: Run) -> dict[str, Any]:
    """The judged queries with every view's answer and its mark. Empty when not judged."""
    views = list(dict.fromkeys(s["view"] for s in run.samples if s["kind"] == "on"))
    rows: dict[str, list[str]] = {}
    for sample in run.samples:
        if sample["kind"] == "on":
            row = rows.setdefault(sample["input"], [visible(sample["input"]), visible(sample["gold"].strip())])
            row.append(f"{_mark(sample)} {visible(sample['answer'].strip())}")
    return {"headers": ["input", gold_name(run), *map(view_name, views)], "data": list(rows.values())}


def _mark(sample: dict[str, Any]) -> str:
    """`✓` where the whole answer is right, `~` where only its first token is; old runs know the first token alone."""
    if sample.get("whole", sample["correct"]):
        return "✓"
    return "~" if sample["correct"] else "✗"


def even_widths(columns: int) -> list[str | int]:
    """One width for all columns: a view that goes on talking must not push the others off the page."""
    return [f"{100 / columns:.2f}%"] * columns


def table_label(run: Run) -> str:
    """What the table of judged queries holds, or how to fill it."""
    if run.samples and made_up(run):
        return _TABLE_LABEL.replace("unseen queries of the gate", "queries that the model made up")
    return _TABLE_LABEL if run.samples else f"no unseen queries asked yet. {how_to_judge(run)}"


def gold_name(run: Run) -> str:
    """Where the right answers come from: without held-out pairs the teacher's own are taken for right."""
    return "teacher's answer" if made_up(run) else "gold"


def made_up(run: Run) -> bool:
    """Whether the judged queries were made up by the model, for want of labelled ones."""
    return run.report["episode"].get("on_eval_gold") == "teacher"


def on_input(run: Run, shown: str) -> str:
    """The input behind a row, as it was asked."""
    found = (s["input"] for s in run.samples if s["kind"] == "on" and visible(s["input"]) == shown)
    return next(found, shown)


def comparison_html(comparison: Comparison, student: str, change: str = "") -> str:
    """The columns. All bars share one scale, 0 to 100 %; the thin line is the teacher's probability.

    change : what was done to the slot of the column `changed`, in words.
    """
    columns = "".join(_column(view, student, change) for view in comparison.views)
    return (
        f'<div class="ck"><div class="ck-asked muted">the model reads <bdi>{esc(visible(comparison.query))}</bdi></div>'
        f'<div class="ck-cols">{columns}</div>'
        '<div class="ck-legend">bars: probability of the next token, 0 to 100 % in every column · '
        '<span><i style="background:var(--ck-teacher);width:2px"></i>the teacher’s probability of the same token</span>'
        "</div></div>"
    )


def _opening_columns(opening: Run | None) -> str:
    if opening is None or (comparison := example_comparison()) is None:
        return empty_html("Nothing compared yet", "Press Compare: the query is asked of the run that is shown.")
    return comparison_html(comparison, opening.student)


def _opening_why(opening: Run | None) -> str:
    why = example_why() if opening else None
    return nothing_why_html() if why is None else why_html(why)


def _column(view: View, student: str, change: str) -> str:
    role = "student" if view.name == student else view.name
    name = f"student · {view_name(view.name)}" if view.name == student else view_name(view.name)
    name = change if change and view.name == "changed" else name
    bars = "".join(map(_bar, view.tokens, view.probabilities, view.teacher_probabilities))
    return (
        f'<section class="ck-col" data-view="{esc(role)}" style="--c:{view_color(view.name, student)}">'
        f'<div class="name">{esc(name)}</div><div class="said"><bdi>{esc(visible(view.text))}</bdi></div>{bars}'
        f'<div class="kl">{_distances(view)}</div></section>'
    )


def _bar(text: str, probability: float, teacher: float) -> str:
    chance = esc(percent(probability))
    return (
        f'<div class="ck-bar" title="{esc(visible(text))}: {probability:.4f}, teacher {teacher:.4f}">{token(text)}'
        f'<span class="track"><span class="fill" style="width:{probability:.2%}"></span>'
        f'<span class="mark" style="left:{teacher:.2%}"></span></span><span class="num">{chance}</span></div>'
    )


def _distances(view: View) -> str:
    parts = {"effect on base": view.delta} if view.name != "base" else {}
    parts |= {"KL to teacher": view.kl_to_teacher} if view.name != "teacher" else {}
    return " · ".join(f"<span>{name} {esc(number(value))} nats</span>" for name, value in parts.items())


TAB = Tab("Compare", "compare", build, show, wire=wire)
