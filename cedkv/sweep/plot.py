"""The frontier as a picture: ON share of the teacher's against OFF p99, best at the upper left."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from cedkv.extras import extra
from cedkv.labels import COLORS, LABELS, REFERENCE_LABELS
from cedkv.sweep.judging import REFERENCES
from cedkv.sweep.plan import told
from cedkv.sweep.tables import Point

X_TITLE, Y_TITLE = "OFF stress p99 of Delta, nats", "first token, share of the teacher’s"
# Readable on light and on dark pages.
_INK, _GRID = "#7d8590", "#7d859055"
_OTHER = ("#6a5acd", "#a0522d", "#5f9ea0")
_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 520, 24, 366


def name_of(method: str) -> str:
    return {**LABELS, **REFERENCE_LABELS}.get(method, method)


def describe(point: Point) -> str:
    """A point in one line: its method, slots and settings."""
    return ", ".join([name_of(point["method"]), *told(point["slots"], point["settings"])])


def frontier_figure(points: Sequence[Point]) -> Any:
    """The points as a Plotly figure; `customdata` is each point's place in `points`."""
    graph = extra("plotly.graph_objects", "sweep")
    figure = graph.Figure()
    places = {id(point): place for place, point in enumerate(points)}
    best = _front(points)
    if best:
        line = {"color": _INK, "dash": "dot", "width": 1, "shape": "hv"}
        x, y = [point["off_p99"] for point in best], [point["share"] for point in best]
        figure.add_scatter(x=x, y=y, mode="lines", line=line, name="Pareto front", hoverinfo="skip")
    for method, own in _series(points):
        told_of = [f"{escape(describe(point))}<br>{point['episodes']} of {point['of']} episodes" for point in own]
        figure.add_scatter(
            x=[point["off_p99"] for point in own],
            y=[point["share"] for point in own],
            customdata=[places[id(point)] for point in own],
            text=told_of,
            name=escape(name_of(method)),
            mode="markers",
            marker={"color": _color(method), **_mark(method, own)},
            hovertemplate="%{text}<br>share %{y:.3f}, p99 %{x:.3f}<extra></extra>",
        )
    figure.update_xaxes(title=X_TITLE, rangemode="tozero", gridcolor=_GRID, zerolinecolor=_GRID)
    figure.update_yaxes(title=Y_TITLE, rangemode="tozero", gridcolor=_GRID, zerolinecolor=_GRID)
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": _INK, "size": 11},
        margin={"l": 56, "r": 12, "t": 40, "b": 46},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        height=_HEIGHT,
    )
    return figure


def frontier_html(points: Sequence[Point]) -> str:
    """The figure as a page that needs nothing from elsewhere."""
    return frontier_figure(points).to_html(include_plotlyjs=True, full_html=True)


def frontier_svg(points: Sequence[Point]) -> str:
    """The same picture as SVG; a point's settings are its title."""
    shown = [point for _, own in _series(points) for point in own]
    right, top = _nice([point["off_p99"] for point in shown]), _nice([point["share"] or 0 for point in shown])
    body = [*_axes(right, top)]
    corners = [_at(point, right, top) for point in _front(points)]
    for (x0, y0), (x1, y1) in zip(corners, corners[1:], strict=False):
        body.append(
            f'<path d="M{x0:.1f} {y0:.1f}H{x1:.1f}V{y1:.1f}" fill="none" stroke="{_INK}" stroke-dasharray="2 3"/>'
        )
    for row, (method, own) in enumerate(_series(points)):
        body += [_drawn(point, *_at(point, right, top)) for point in own]
        y, key = _TOP + 8 + 20 * row, escape(name_of(method))
        body += [_shape(method, _RIGHT + 24, y, True, ""), f'<text x="{_RIGHT + 36}" y="{y + 4}">{key}</text>']
    body.append(f'<text x="{_RIGHT + 16}" y="{_BOTTOM}">filled: on the Pareto front</text>')
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    font = f'font-family="sans-serif" font-size="12" fill="{_INK}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>\n' + "\n".join(body) + "\n</svg>\n"


def _series(points: Sequence[Point]) -> list[tuple[str, list[Point]]]:
    """What can be drawn, by method in the order of the points."""
    drawn = [point for point in points if point["share"] is not None]
    return [(name, [p for p in drawn if p["method"] == name]) for name in dict.fromkeys(p["method"] for p in drawn)]


def _front(points: Sequence[Point]) -> list[Point]:
    """From the quietest to the most accurate."""
    return sorted((point for point in points if point["front"]), key=lambda point: point["off_p99"])


def _color(method: str) -> str:
    return COLORS.get(method, _OTHER[sum(method.encode()) % len(_OTHER)])


def _mark(method: str, own: Sequence[Point]) -> dict[str, Any]:
    """References are crosses; a method's points are full on the front and rings beside it."""
    if method in REFERENCES:
        return {"symbol": "x", "size": 9}
    return {"symbol": ["circle" if point["front"] else "circle-open" for point in own], "size": 9}


def _at(point: Point, right: float, top: float) -> tuple[float, float]:
    across, up = point["off_p99"] / right, (point["share"] or 0) / top
    return _LEFT + (_RIGHT - _LEFT) * across, _BOTTOM - (_BOTTOM - _TOP) * up


def _drawn(point: Point, x: float, y: float) -> str:
    figures = f"share {point['share']:.3f}, p99 {point['off_p99']:.3f}"
    return _shape(point["method"], x, y, point["front"], f"<title>{escape(describe(point))}: {figures}</title>")


def _shape(method: str, x: float, y: float, full: bool, title: str) -> str:
    color = _color(method)
    if method in REFERENCES:
        cross = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
        return f'<path d="{cross}" stroke="{color}" stroke-width="2.5">{title}</path>'
    fill = color if full else "none"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{fill}" stroke="{color}" stroke-width="2">{title}</circle>'


def _axes(right: float, top: float) -> Iterator[str]:
    for part in range(5):
        x, y = _LEFT + (_RIGHT - _LEFT) * part / 4, _BOTTOM - (_BOTTOM - _TOP) * part / 4
        yield f'<path d="M{_LEFT} {y:.1f}H{_RIGHT}M{x:.1f} {_TOP}V{_BOTTOM}" stroke="{_GRID}" fill="none"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * part / 4:g}</text>'
        yield f'<text x="{x:.1f}" y="{_BOTTOM + 16}" text-anchor="middle">{right * part / 4:g}</text>'
    yield f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_BOTTOM + 36}" text-anchor="middle">{X_TITLE}</text>'
    yield f'<text x="8" y="{_TOP - 8}">{Y_TITLE}</text>'


def _nice(values: Sequence[float]) -> float:
    """The least of 1, 1.2, 1.6, 2, 4, 8 times a power of ten that no value is above."""
    power = 1e-3
    largest = max(values, default=0)
    while power * 10 < largest:
        power *= 10
    return next(step * power for step in (1, 1.2, 1.6, 2, 4, 8, 10) if step * power >= largest)
