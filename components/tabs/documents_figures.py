"""What the Documents tab draws: how well each view finds a needle by depth and length, and what prefixes do to other
text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from components.figures import INK, MASS_SCALE, calm
from components.text import esc
from components.theme import VIEW_COLORS, view_name

if TYPE_CHECKING:
    from cedkv.compressors.judged import GridRow
    from cedkv.report import OffScores

VIEW_TITLES = {
    "base": "without the document",
    "full": "full context",
    "retrieved": "retrieval (RAG)",
    "gist": "gists",
    "both": "document and gists",
    "blind": "gists that saw nothing",
    "select": "Select-KV",
    "chunked": "chunked",
    "ced": "CED, trained on it",
}
# Gists are the student here, and the whole document is what the teacher has.
_COLORS = {"gist": VIEW_COLORS["student"], "full": VIEW_COLORS["teacher"], "ced": VIEW_COLORS["changed"]}
_COLUMNS = 4


def view_title(view: str) -> str:
    return VIEW_TITLES.get(view) or view_name(view)


def needle_heatmaps(rows: Sequence["GridRow"], kind: str) -> go.Figure:
    """The score of one kind of needle by depth and length of its document, a map for each view on one scale."""
    chosen = [row for row in rows if row["kind"] == kind]
    views = list(dict.fromkeys(row["view"] for row in chosen))
    lengths, depths = sorted({row["tokens"] for row in chosen}), sorted({row["depth"] for row in chosen})
    columns = min(len(views), _COLUMNS)
    figure = make_subplots(
        -(-len(views) // columns), columns, shared_xaxes="all", shared_yaxes="all",
        subplot_titles=[esc(view_title(view)) for view in views], horizontal_spacing=0.03, vertical_spacing=0.16,
    )  # fmt: skip
    for place, view in enumerate(views):
        found = {(row["tokens"], row["depth"]): row for row in chosen if row["view"] == view}
        cells = [[found.get((length, depth)) for length in lengths] for depth in depths]
        figure.add_trace(
            go.Heatmap(
                name=esc(view_title(view)),
                x=[str(length) for length in lengths],
                y=[f"{depth:.0%}" for depth in depths],
                z=[[None if cell is None else round(cell["score"], 3) for cell in row] for row in cells],
                customdata=[[0 if cell is None else cell["count"] for cell in row] for row in cells],
                texttemplate="%{z:.2f}",
                hovertemplate=f"{esc(view_title(view))}<br>%{{x}} tokens, %{{y}} deep<br>%{{z:.2f}} of %{{customdata}}"
                "<extra></extra>",
                colorscale=MASS_SCALE,
                zmin=0,
                zmax=1,
                xgap=2,
                ygap=2,
                showscale=place == 0,
                colorbar={"title": {"text": "right", "side": "right"}, "thickness": 8, "outlinewidth": 0},
            ),
            row=place // columns + 1,
            col=place % columns + 1,
        )
    rows_of_maps = -(-len(views) // columns)
    figure.update_xaxes(showgrid=False, type="category")
    figure.update_xaxes(title="tokens of the document", row=rows_of_maps)
    figure.update_yaxes(showgrid=False, autorange="reversed", type="category")
    figure.update_yaxes(title="depth of the needle", col=1)
    figure.update_annotations(font_size=11)
    return calm(figure, height=110 + rows_of_maps * (60 + 34 * len(depths)))


def off_html(off: Mapping[str, "OffScores"], slots: int) -> str:
    """p99 of `Delta` behind each view of a document, with the paragraph's mark on every bar."""
    top = max(scores["delta_p99"] for scores in off.values()) or 1.0
    paragraph = off["neutral_paragraph"]["delta_p99"]
    said = _verdict(off["gist"]["delta_p99"], paragraph, slots) if "gist" in off else ""
    bars = "".join(_bar(view, scores, paragraph, top) for view, scores in off.items())
    return (
        f'<div class="ck"><h3>OFF effect of this document’s prefixes</h3>{said}{bars}'
        '<p class="muted">99th percentile of Delta in nats, on text that asks nothing of the document; the mark is an '
        "ordinary paragraph of as many tokens as there are gists.</p></div>"
    )


def _verdict(gist: float, paragraph: float, slots: int) -> str:
    than = "no more than" if gist <= paragraph else "more than"
    return (
        f'<p class="ck-says">Behind the gists other text moves by <b>{gist:.2f}</b>: {than} behind an ordinary '
        f"paragraph of {slots} tokens ({paragraph:.2f}).</p>"
    )


def _bar(view: str, scores: "OffScores", paragraph: float, top: float) -> str:
    value, color = scores["delta_p99"], _COLORS.get(view) or VIEW_COLORS.get(view, INK)
    title = f"{view_title(view)}: mean {scores['delta_mean']:.3f}, p99 {value:.3f} of {scores['count']} texts"
    return (
        f'<div class="ck-bar" title="{esc(title)}" style="--c:{color}"><bdi>{esc(view_title(view))}</bdi>'
        f'<span class="track"><i class="fill" style="width:{value / top:.1%}"></i>'
        f'<i class="mark" style="left:{paragraph / top:.1%}"></i></span><span class="num">{value:.2f}</span></div>'
    )
