"""Plain data to Plotly figures. Transparent, with axis names and units; every label that is not ours is escaped."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from components.text import esc, plot_label, visible
from components.theme import VIEW_COLORS, view_color, view_name

INK = "#7d8590"
GRID = "rgba(125,133,144,.22)"
# So many names of tokens can be read below a heatmap; of more, every second or third is there.
_MOST_LABELS = 110
# From nothing to the student's colour, on a light and on a dark page.
MASS_SCALE = [[0, "rgba(224,112,44,0)"], [0.02, "rgba(224,112,44,.12)"], [1, "rgba(224,112,44,1)"]]
# The same by the root: the twelfths that a chunk is made of are seen beside a slot that is one token.
WEIGHT_SCALE = [[weight, f"rgba(224,112,44,{weight**0.5:.2f})"] for weight in (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1)]
# Blue to orange through grey: also for eyes that do not tell red from green.
COSINE_SCALE = [[0, VIEW_COLORS["teacher"]], [0.5, "rgba(139,148,158,.15)"], [1, VIEW_COLORS["student"]]]
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
ROLE_COLORS = {"input": "#8b949e", "output": "#6f8f3a", "delimiter": "#c9b458"}


def slot_heatmap(
    weights: Sequence[Sequence[float]],
    texts: Sequence[str],
    roles: Sequence[str],
    chosen: int | None = None,
    named: bool = True,
    top: float | None = None,
) -> go.Figure:
    """Weight of every slot on every demonstration token; `chosen` (from 0) is framed.

    top : the weight that has the full colour, the largest one where it is left out.
    named : each token's text stands below it; where there is no room for that, only pointing at a cell tells it.
    """
    slots, tokens = len(weights), len(texts)
    names = [
        f"{index}: {esc(visible(text))} ({esc(role)})"
        for index, (text, role) in enumerate(zip(texts, roles, strict=True))
    ]
    figure = go.Figure(
        go.Heatmap(
            z=[[round(value, 4) for value in row] for row in weights],
            x=list(range(tokens)),
            y=list(range(1, slots + 1)),
            customdata=[names] * slots,
            hovertemplate="slot %{y} · token %{customdata}<br>weight %{z:.3f}<extra></extra>",
            colorscale=WEIGHT_SCALE,
            zmin=0,
            zmax=top or max((max(row, default=0) for row in weights), default=0) or 1,
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "weight", "side": "right"}, "thickness": 8, "outlinewidth": 0},
        )
    )
    if chosen is not None:
        frame = {"color": INK, "width": 1.5}
        figure.add_shape(type="rect", x0=-0.5, x1=tokens - 0.5, y0=chosen + 0.5, y1=chosen + 1.5, line=frame)
    told = range(0, tokens, -(-tokens // _MOST_LABELS) or 1)
    below = {"tickvals": list(told), "ticktext": [plot_label(texts[at], 10) for at in told], "tickangle": -90}
    figure.update_xaxes(title="demonstration token", tickfont={"size": 9}, showgrid=False, **(below if named else {}))
    figure.update_yaxes(title="slot", autorange="reversed", showgrid=False, **_slot_ticks(slots))
    return calm(figure, height=130 + 20 * slots + 40)


def similarity_matrix(matrix: Sequence[Sequence[float]], name: str, low: float = -1.0) -> go.Figure:
    """Slot against slot, from `low` to 1."""
    slots = list(range(1, len(matrix) + 1))
    figure = go.Figure(
        go.Heatmap(
            z=[[round(value, 3) for value in row] for row in matrix],
            x=slots,
            y=slots,
            zmin=low,
            zmax=1,
            colorscale=COSINE_SCALE if low < 0 else MASS_SCALE,
            hovertemplate=f"slots %{{y}} and %{{x}}: {esc(name)} %{{z:.2f}}<extra></extra>",
            colorbar={"thickness": 8, "outlinewidth": 0},
            xgap=1,
            ygap=1,
        )
    )
    figure.update_xaxes(title="slot", showgrid=False, **_slot_ticks(len(slots)))
    figure.update_yaxes(title="slot", autorange="reversed", showgrid=False, **_slot_ticks(len(slots)))
    figure.update_layout(title={"text": esc(name), "font": {"size": 12}})
    return calm(figure, height=300)


def _roles(masses: Sequence[Mapping[str, float]]) -> list[str]:
    """Those of demonstrations, then any other that has a mass; the latter get plotly's own colours."""
    return list(dict.fromkeys([*ROLE_COLORS, *(role for mass in masses for role in mass)]))


def role_bars(slots: Sequence[Mapping[str, float]], cap: float | None) -> go.Figure:
    """Role mass per slot, stacked, with the delimiter cap drawn where there is one below 1."""
    numbers = list(range(1, len(slots) + 1))
    figure = go.Figure()
    for role in _roles(slots):
        figure.add_bar(
            x=numbers, y=[slot.get(role, 0) for slot in slots], name=role, marker_color=ROLE_COLORS.get(role),
            hovertemplate=f"slot %{{x}}: {role} %{{y:.2f}}<extra></extra>",
        )  # fmt: skip
    if cap is not None and cap < 1:
        figure.add_hline(y=cap, line={"color": INK, "dash": "dash"}, annotation_text=f"delimiter cap {cap:.2f}")
    figure.update_layout(barmode="stack", legend=LEGEND)
    figure.update_xaxes(title="slot", **_slot_ticks(len(slots)))
    figure.update_yaxes(title="share of the slot's weight", range=[0, 1.02])
    return calm(figure, height=260)


def off_histograms(
    deltas: Mapping[str, Mapping[str, Sequence[float]]],
    student: str,
    threshold: float | None,
    p99: Mapping[str, float],
    top: float | None = None,
) -> go.Figure:
    """Delta per bucket and view as small multiples on one axis; the demonstrations' own effect is the outline.

    threshold : what the gate allows, dashed. p99 : the student's per bucket, as the report has it, solid.
    top : the largest Delta that there is room for, that of the deltas themselves where it is left out.
    """
    buckets = list(deltas)
    columns = 3 if len(buckets) > 3 else max(len(buckets), 1)
    rows = -(-len(buckets) // columns)
    figure = make_subplots(
        rows, columns, shared_xaxes="all", shared_yaxes="all",
        subplot_titles=[esc(bucket.replace("_", " ")) for bucket in buckets],
        vertical_spacing=0.34 / max(rows, 1), horizontal_spacing=0.03,
    )  # fmt: skip
    top = top or max((value for views in deltas.values() for values in views.values() for value in values), default=1.0)
    size = max(top, threshold or 0) / 24 or 0.1
    traces, at_rows, at_columns, lines = [], [], [], []
    for place, bucket in enumerate(buckets):
        views = deltas[bucket].items()
        traces += [_histogram(view, student, values, size, first=place == 0) for view, values in views]
        at_rows += [place // columns + 1] * len(views)
        at_columns += [place % columns + 1] * len(views)
        if threshold is not None:
            lines.append(_upright(threshold, place, {"color": INK, "dash": "dash", "width": 1}))
        if bucket in p99:
            lines.append(_upright(p99[bucket], place, {"color": view_color(student, student), "width": 1}))
    figure.add_traces(traces, at_rows, at_columns)
    figure.add_scatter(**_key("p99", view_color(student, student), None), row=1, col=1)
    if threshold is not None:
        figure.add_scatter(**_key("what the gate allows", INK, "dash"), row=1, col=1)
    # The legend clears the titles of the first row, whatever the height.
    height = 120 + 150 * rows
    figure.update_layout(barmode="overlay", legend={**LEGEND, "y": 1 + 26 / (height - 112)}, bargap=0.04, shapes=lines)
    figure.update_annotations(font_size=11)
    figure.update_xaxes(range=[0, 25 * size])
    figure.update_xaxes(title="Delta, nats", row=rows)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="texts", col=1)
    return calm(figure, height, top=66)


def _upright(x: float, place: int, line: Mapping[str, Any]) -> dict[str, Any]:
    """A line through one of the small multiples. plotly's `add_vline` looks through the whole figure for each."""
    axis = str(place + 1) if place else ""
    ends = {"x0": x, "x1": x, "xref": f"x{axis}", "y0": 0, "y1": 1, "yref": f"y{axis} domain"}
    return {"type": "line", "line": line, **ends}


def training_curves(
    steps: Sequence[Mapping[str, Any]], ticks: Sequence[Mapping[str, Any]], bound: float | None
) -> go.Figure:
    """Losses, lambda and top-k per step, and the real metrics at the ticks, one under another."""
    figure = make_subplots(
        4, 1, shared_xaxes=True, vertical_spacing=0.06,
        specs=[[{}], [{"secondary_y": True}], [{}], [{}]],
    )  # fmt: skip
    at = [step["step"] + 1 for step in steps]
    for name, color in (("loss_on", "student"), ("loss_off", "teacher"), ("loss_str", "base")):
        label = {"loss_on": "L_on", "loss_off": "L_off", "loss_str": "L_str"}[name]
        figure.add_scatter(
            x=at, y=[step[name] for step in steps], name=label, line={"color": VIEW_COLORS[color]}, row=1, col=1
        )
    figure.add_scatter(
        x=at,
        y=[step["lambda_off"] for step in steps],
        name="lambda_off",
        line={"color": VIEW_COLORS["teacher"], "dash": "dot"},
        row=2,
        col=1,
    )
    mixed = [step for step in steps if step["top_k"] is not None]
    if mixed:
        figure.add_scatter(
            x=[step["step"] + 1 for step in mixed], y=[step["top_k"] for step in mixed], name="top-k",
            line={"color": INK, "shape": "hv"}, row=2, col=1, secondary_y=True,
        )  # fmt: skip
    ticked = [tick["step"] + 1 for tick in ticks]
    dots = {"mode": "lines+markers", "x": ticked}
    figure.add_scatter(
        **dots,
        y=[tick["stress_p99"] for tick in ticks],
        name="p99 on training’s texts",
        line={"color": VIEW_COLORS["teacher"]},
        row=3,
        col=1,
    )
    figure.add_scatter(
        **dots,
        y=[tick["train_kl"] for tick in ticks],
        name="KL to teacher",
        line={"color": VIEW_COLORS["student"]},
        row=3,
        col=1,
    )
    if bound is not None:
        figure.add_hline(y=bound, line={"color": INK, "dash": "dash", "width": 1}, row=3, col=1)
    for role in _roles([tick["role_mass"] for tick in ticks]):
        shares = [tick["role_mass"].get(role) for tick in ticks]
        figure.add_scatter(**dots, y=shares, name=role, line={"color": ROLE_COLORS.get(role)}, row=4, col=1)
    titles = ("loss, nats", "lambda_off", "nats at ticks", "role mass")
    for row, title in enumerate(titles, start=1):
        figure.update_yaxes(title=title, row=row, col=1, secondary_y=False if row == 2 else None)
    figure.update_yaxes(title="top-k", secondary_y=True, showgrid=False, row=2, col=1)
    figure.update_yaxes(rangemode="tozero", row=2, col=1)
    figure.update_xaxes(dtick=max(1, len(steps) // 10))
    figure.update_xaxes(title="step", row=4)
    figure.update_layout(legend=LEGEND)
    return calm(figure, height=620, top=60)


def _key(name: str, color: str, dash: str | None) -> dict[str, Any]:
    """A line that stands in the legend alone, for the vertical ones, which plotly does not list."""
    return {"x": [None], "y": [None], "mode": "lines", "name": name, "line": {"color": color, "dash": dash, "width": 1}}


def _histogram(view: str, student: str, values: Sequence[float], size: float, first: bool) -> go.Histogram:
    color, ghost = view_color(view, student), view == "teacher"
    return go.Histogram(
        x=list(values),
        name="demonstrations" if ghost else view_name(view),
        legendgroup=view,
        showlegend=first,
        xbins={"start": 0, "size": size},
        marker={"color": "rgba(0,0,0,0)" if ghost else color, "line": {"color": color, "width": 1.4 if ghost else 0}},
        opacity=1 if ghost else 0.75,
        hovertemplate=f"{esc(view_name(view))}: %{{y}} texts at %{{x}} nats<extra></extra>",
    )


def _slot_ticks(slots: int) -> dict[str, Any]:
    """Every slot's number while they fit, else every fourth."""
    return {"tickvals": list(range(1, slots + 1, 1 if slots <= 20 else 4))}


def calm(figure: go.Figure, height: int, top: int = 40) -> go.Figure:
    """A figure as all of them look: transparent, small words, thin grid."""
    figure.update_layout(
        height=height,
        margin={"l": 52, "r": 12, "t": top, "b": 46},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 11},
        hoverlabel={"font": {"size": 12}},
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID, linecolor=GRID)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID, linecolor=GRID)
    return figure
