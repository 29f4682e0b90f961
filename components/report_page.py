"""A run as one HTML file that needs nothing else: no network, no other file. Its plots are live, as in the page."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from cedkv.files import write_whole
from cedkv.session.runs import Run
from components.figures import similarity_matrix, slot_heatmap
from components.headline import headline_html
from components.off_texts import WORST_HEADERS, worst_rows
from components.run_figures import off_figure, read_training, role_figure, trained_methods, training_figure
from components.text import esc, number, token
from components.theme import STYLE, view_name
from components.verdicts import collapse_html, gate_html

_FRAME = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title><style>:root {{ --font-mono: ui-monospace, monospace; color-scheme: light; }}
body {{ font-family: system-ui, sans-serif; max-width: 1000px; margin: 24px auto; padding: 0 16px; }}
section {{ margin: 28px 0; overflow-x: auto; }} h3 {{ margin-top: 22px; }} {style}</style>{script}</head>
<body>{body}</body></html>
"""
# A heatmap names every token below it, for which a phone has no room: it is slid sideways, not squeezed.
_PLOT_WIDTH = "min-width:640px"


def write_report_page(run: Run) -> Path:
    """The page as a file beside the run's others."""
    path = run.folder / "report.html"
    write_whole(path, report_page(run))
    return path


def report_page(run: Run) -> str:
    """The headline, the gates, every view's numbers, the slots, the plots, the worst texts and the settings."""
    plots = [_plot(title, figure) for title, figure in _figures(run) if figure is not None]
    parts = [
        headline_html(run, alone=True),
        gate_html(run, alone=True),
        _views(run),
        collapse_html(run),
        _slots(run),
        *plots,
        _worst(run),
        _settings(run),
    ]
    body = "".join(f"<section>{part}</section>" for part in parts)
    script = f"<script>{get_plotlyjs()}</script>" if plots else ""
    style = STYLE.read_text(encoding="utf-8")
    return _FRAME.format(title=esc(f"CED-KV {run.id}"), style=style, script=script, body=body)


def _figures(run: Run) -> Iterator[tuple[str, Any]]:
    """What the tabs draw of a run, by title; None where there is nothing to draw."""
    if run.student:
        from cedkv.session.slots import similarity, slot_map  # bring torch, without which the page can be there

        state = run.prefix(run.student)
        if state.mixture is not None:
            slots = slot_map(state)
            yield "what each slot takes", slot_heatmap(slots.weights, slots.texts, slots.roles)
        yield "how alike the slots are", similarity_matrix(similarity(state)["values"], "cosine of values")
    yield "roles of the tokens", role_figure(run)
    yield "effect on other texts", off_figure(run, "stress", [])
    for method in trained_methods(run):
        yield f"training of {view_name(method)}", training_figure(read_training(run, method))


def _plot(title: str, figure: Any) -> str:
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
    return f'<div class="ck"><h3>{esc(title)}</h3><div style="{_PLOT_WIDTH}">{drawn}</div></div>'


# Judged on other texts alone.
_YARDSTICKS = ("neutral_token", "neutral_paragraph")


def _views(run: Run) -> str:
    rows = [
        [view_name(view), number(on["accuracy"]), number(on.get("whole_answer")), number(on.get("answer_logprob")),
         number(on["kl_to_teacher"]), number(on["delta_on_mean"]),
         number(run.report["off"][view]["stress"]["delta_p99"])]
        for view, on in run.report.get("on", {}).items()
    ]  # fmt: skip
    rows += [
        [view_name(view), *[""] * 5, number(off["stress"]["delta_p99"])]
        for view, off in run.report.get("off", {}).items()
        if view in _YARDSTICKS
    ]
    names = ["view", "first token", "whole answer", "its log-prob, nats", "KL to teacher, nats", "Delta ON mean, nats",
             "OFF p99 stress, nats"]  # fmt: skip
    return _table("views", names, rows)


def _slots(run: Run) -> str:
    rows = [
        f'<tr><td class="num">{slot["slot"] + 1}</td><td>'
        + " ".join(
            f'{token(item["text"])} <span class="muted">{esc(number(item["weight"]))} {esc(item["role"])}</span>'
            for item in slot["tokens"]
        )
        + "</td></tr>"
        for slot in run.report.get("slots", [])
    ]
    return f'<div class="ck"><h3>slots</h3><table><tbody>{"".join(rows)}</tbody></table></div>' if rows else ""


def _worst(run: Run) -> str:
    rows = [[number(row[0]), number(row[1]), row[2], row[3]] for row in worst_rows(run, "stress")]
    return _table("worst OFF texts", WORST_HEADERS, rows)


def _settings(run: Run) -> str:
    text = (run.folder / "config.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^(\s*(?:demos|task)_file: ).*/", r"\1", text)  # where a file lies is the server's business
    return f'<div class="ck"><h3>settings</h3><pre class="mono">{esc(text)}</pre></div>'


def _table(title: str, names: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{esc(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="ck"><h3>{esc(title)}</h3><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )
