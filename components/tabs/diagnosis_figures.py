"""What the Diagnosis tab draws: the bottleneck in words, curves over slots, weight and layers, and what roles do."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from components.figures import LEGEND, calm
from components.text import esc, number
from components.theme import VIEW_COLORS, yardstick_name

if TYPE_CHECKING:
    from cedkv.gate.diagnosed import Diagnosis, Measured

# What the three columns show of a point.
_COLUMNS: dict[str, "Callable[[Measured], float]"] = {
    "first token the teacher’s, share": lambda point: point["agreement"],
    "KL to teacher, nats": lambda point: point["kl"],
    "OFF effect p99, nats": lambda point: point["off_p99"],
}
# What stands beside the slots where it is about other text.
_BESIDE = ("teacher", "neutral_paragraph", "neutral_token")


def findings_html(found: "Diagnosis") -> str:
    """Every bottleneck and what to try, the one that decides first."""
    items = "".join(
        f"<dt>{esc(one['name'])}</dt><dd>{esc(one['words'])} <b>Try</b> {esc(one['option'])}</dd>"
        for one in found["bottlenecks"]
    )
    about = (
        f"{found['queries']} training queries and other texts that no gate judges; instant slots, at "
        f"{found['slots']} slots and weight {found['weight']:g} where nothing else is said."
    )
    return f'<div class="ck"><dl class="ck-findings">{items}</dl><p class="ck-note">{about}</p></div>'


def roles_html(found: "Diagnosis") -> str:
    """What is lost, and what becomes quieter, without the slots of a role."""
    head = "<tr><th>without</th><th>slots</th>" + "".join(f"<th>{name}</th>" for name in _COLUMNS) + "</tr>"
    whole = next(point for point in found["by_slots"] if point["slots"] == found["slots"])
    rows: list[tuple[str, str, Measured]] = [("nothing", "", whole)]
    rows += [(one["role"], ", ".join(str(slot + 1) for slot in one["slots"]), one) for one in found["by_role"]]
    # Files of before have no such reference.
    if "sink_alone" in found["references"]:
        rows.append(("everything but the sink", "", found["references"]["sink_alone"]))
    body = "".join(
        f'<tr><th>{esc(role)}</th><td class="num">{slots}</td>'
        + "".join(f'<td class="num">{esc(number(read(point)))}</td>' for read in _COLUMNS.values())
        + "</tr>"
        for role, slots, point in rows
    )
    return f'<div class="ck"><table class="ck-table">{head}{body}</table></div>'


def diagnosis_figure(found: "Diagnosis") -> go.Figure:
    """Three rows of curves: over the number of slots, over their weight, and without each band of layers."""
    rows: tuple[tuple[str, list[str], Sequence[Measured]], ...] = (
        (f"slots; the template has {found['places']} places", _ticks(found["by_slots"], "slots"), found["by_slots"]),
        ("weight: 0 counts a slot once, 1 as all of its tokens", _ticks(found["by_weight"], "weight"),
         found["by_weight"]),
        ("without these layers", [_band(one["layers"]) for one in found["by_layer"]], found["by_layer"]),
    )  # fmt: skip
    beside = [view for view in _BESIDE if view in found["references"]]
    figure = make_subplots(
        len(rows), len(_COLUMNS), shared_yaxes="columns", vertical_spacing=0.16, horizontal_spacing=0.07,
        column_titles=list(_COLUMNS),
    )  # fmt: skip
    for row, (title, ticks, points) in enumerate(rows, start=1):
        for column, read in enumerate(_COLUMNS.values(), start=1):
            figure.add_scatter(
                x=ticks, y=[read(point) for point in points], mode="lines+markers", name="instant slots",
                line={"color": VIEW_COLORS["student"], "width": 1.5}, showlegend=row == column == 1,
                hovertemplate="%{x}: %{y:.2f}<extra></extra>", row=row, col=column,
            )  # fmt: skip
        figure.update_xaxes(type="category", title=title, row=row, col=2)
        for view in beside:
            level = found["references"][view]["off_p99"]
            figure.add_hline(y=level, line=_line(view), row=row, col=len(_COLUMNS))
    for view in beside:
        figure.add_scatter(x=[None], y=[None], mode="lines", name=yardstick_name(view), line=_line(view), row=1, col=1)
    figure.update_xaxes(type="category", title_font_size=11)
    figure.update_yaxes(rangemode="tozero")
    figure.update_annotations(font_size=11)
    figure.update_layout(legend={**LEGEND, "y": 1.07})
    return calm(figure, height=560, top=66)


def _line(view: str) -> dict[str, Any]:
    return {"color": VIEW_COLORS[view], "width": 1}


def _ticks(points: Sequence[Any], axis: str) -> list[str]:
    return [f"{point[axis]:g}" for point in points]


def _band(layers: Sequence[int]) -> str:
    return f"{layers[0]}–{layers[-1]}"
