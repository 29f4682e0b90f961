"""Above the tabs: instant slots of every size and weight, what they do, and a click that opens one as a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cedkv.session.runs import Run
from components.figures import LEGEND, calm
from components.plots import take_away_plot
from components.text import esc, number
from components.theme import VIEW_COLORS, yardstick_name

if TYPE_CHECKING:
    from cedkv.session.strip import Point, Strip

_NOTE = (
    '<div class="ck muted">Instant slots (means of your demonstrations’ tokens, nothing is trained) of several sizes, '
    "and of several weights: how many tokens a slot counts as, from one to all of its own. About as long as a few "
    "comparisons.</div>"
)
# A click on a point, and the same by button; plotly replaces its element with every figure.
_CLICKS = """
const open = (slots, weight) => trigger('click', {slots, weight});
document.addEventListener('pointerover', (event) => {
  const plot = event.target.closest?.('#sizes-plot .js-plotly-plot');
  if (!plot || plot.dataset.hooked || !plot.on) return;
  plot.dataset.hooked = '1';
  plot.on('plotly_click', (clicked) => {
    const place = clicked.points[0].customdata;
    if (place) open(place[0], place[1]);
  });
});
element.addEventListener('click', (event) => {
  const {slots, weight} = event.target.closest('[data-slots]')?.dataset ?? {};
  if (slots) open(Number(slots), Number(weight));
});
"""
# What the three columns show of a point.
_COLUMNS = {
    "first token, share right": lambda point: point.accuracy,
    "KL to teacher, nats": lambda point: point.kl,
    "OFF effect p99, nats": lambda point: point.off,
}


@dataclass(frozen=True)
class Sizes:
    """`found` is the strip that is drawn, `chosen` the place (slots, weight) that was clicked last and when."""

    measure: gr.Button
    places: gr.HTML
    plot: gr.Plot
    found: gr.State
    chosen: gr.State


def build_sizes() -> Sizes:
    with gr.Accordion("how many slots, and how loud?", open=False, elem_id="sizes"):
        gr.HTML(_NOTE)
        measure = gr.Button("Measure for these demonstrations", size="sm", elem_id="measure-sizes", min_width=200)
        places = gr.HTML("", elem_id="sizes-places", js_on_load=_CLICKS)
        plot = take_away_plot("sizes-plot")
    return Sizes(measure, places, plot, gr.State(None), gr.State(None))


def place_of(run: Run | None, strip: "Strip") -> tuple[int, float] | None:
    """Where a run's state stands on the strip; None where it is not of its kind, or its slots were mixed by hand."""
    if run is None or run.student != "chunked" or "slot_factors" in run.report:
        return None
    return strip.place_of(run.config)


def sizes_figure(strip: "Strip", shown: tuple[int, float] | None) -> go.Figure:
    """First token, KL and OFF effect by number of slots and by weight; yardsticks are thin lines, `shown` a ring."""
    figure = make_subplots(
        2, 3, shared_yaxes="columns", vertical_spacing=0.26, horizontal_spacing=0.07, column_titles=list(_COLUMNS)
    )
    for row, (places, axis) in enumerate(((strip.sizes(), 0), (strip.weights(), 1)), start=1):
        for column, read in enumerate(_COLUMNS.values(), start=1):
            cell = {"row": row, "col": column}
            measured = [place for place in places if place in strip.points]
            _add(figure, "chunked slots", measured, axis, [read(strip.points[place]) for place in measured], cell)
            ring = [place for place in measured if place == shown]
            _add(figure, "shown now", ring, axis, [read(strip.points[place]) for place in ring], cell)
            for view, yardstick in strip.yardsticks.items():
                # A teacher's distance from itself is nothing.
                if measured and not (view == "teacher" and column == 2):
                    figure.add_hline(y=read(yardstick), line={"color": VIEW_COLORS[view], "width": 1}, **cell)
        title = f"slots, at weight {strip.weight:g}" if axis == 0 else f"weight, with {strip.slots} slots"
        # Every place has its room from the start: nothing moves while the points come.
        ticks = {"categoryarray": [_tick(place[axis]) for place in places], "range": [-0.4, len(places) - 0.6]}
        figure.update_xaxes(type="category", categoryorder="array", title=title, row=row, **ticks)
    for view in strip.yardsticks:
        line = {"color": VIEW_COLORS[view], "width": 1}
        figure.add_scatter(x=[None], y=[None], mode="lines", name=yardstick_name(view), line=line, row=1, col=1)
    shown_points = [*strip.points.values(), *strip.yardsticks.values()]
    for column, read in enumerate(_COLUMNS.values(), start=1):
        figure.update_yaxes(range=[0, 1.08 * max(map(read, shown_points), default=1) or 1], col=column)
    figure.update_xaxes(title_font_size=11)
    figure.update_annotations(font_size=11)
    figure.update_layout(legend={**LEGEND, "y": 1.12})
    return calm(figure, height=380, top=66)


def _add(
    figure: go.Figure, name: str, places: Sequence[tuple[int, float]], axis: int, values: list[float], cell: dict
) -> None:
    """Points at places along an axis, 0 for slots and 1 for weights; what is shown now is a ring."""
    color, first = VIEW_COLORS["student"], cell == {"row": 1, "col": 1}
    if name == "shown now":
        marker = {"symbol": "circle-open", "size": 15, "color": color, "line": {"width": 2}}
        look: dict[str, Any] = {"mode": "markers", "marker": marker, "hoverinfo": "skip"}
    else:
        told = f"{('slots', 'weight')[axis]} %{{x}}: %{{y:.2f}}, a click opens it<extra></extra>"
        look = {"mode": "lines+markers", "line": {"color": color, "width": 1.5}, "hovertemplate": told}
    if places:
        figure.add_scatter(
            x=[_tick(place[axis]) for place in places], y=values, customdata=list(places), name=name, showlegend=first,
            **look, **cell,
        )  # fmt: skip


def _tick(at: float) -> str:
    return f"{at:g}"


def stage_html(stage: str) -> str:
    """What is done before the first point."""
    return f'<div class="ck"><p class="muted">{esc(stage)}…</p></div>'


def places_html(strip: "Strip") -> str:
    """The same points as buttons, with their numbers, and what they were measured on."""
    known = [[place for place in places if place in strip.points] for places in (strip.sizes(), strip.weights())]
    sizes = [_button(f"S = {place[0]}", place, strip.points[place]) for place in known[0]]
    dials = [_button(f"weight {place[1]:g}", place, strip.points[place]) for place in known[1]]
    asked = "queries, the teacher’s own answers taken for right" if strip.gold == "teacher" else "unseen queries"
    about = f"{strip.queries} {asked}, and {strip.texts} other texts, whose p99 is nearly the worst of them"
    more = "" if strip.done else " · measuring"
    return (
        f'<div class="ck"><div class="ck-places">{"".join(sizes)}</div><div class="ck-places">{"".join(dials)}</div>'
        f'<p class="muted">open one as a run · {about}{more}</p></div>'
    )


def _button(label: str, place: tuple[int, float], point: "Point") -> str:
    slots, weight = place
    numbers = f"first token {number(point.accuracy)}, KL {number(point.kl)}, OFF p99 {number(point.off)}"
    return (
        f'<button data-slots="{slots}" data-weight="{weight}" title="{numbers}" aria-label="{label}: {numbers}">'
        f"{label}</button>"
    )
