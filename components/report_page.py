"""A run as one HTML file that needs nothing else: no network, no scripts, no other file."""

from pathlib import Path

from cedkv.session.runs import Run
from components.headline import headline_html
from components.off_texts import WORST_HEADERS, worst_rows
from components.text import esc, number, token
from components.theme import STYLE, view_name
from components.verdicts import collapse_html, gate_html

_FRAME = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title><style>:root {{ --font-mono: ui-monospace, monospace; color-scheme: light; }}
body {{ font-family: system-ui, sans-serif; max-width: 1000px; margin: 24px auto; padding: 0 16px; }}
section {{ margin: 28px 0; }} {style}</style></head><body>{body}</body></html>
"""


def write_report_page(run: Run) -> Path:
    """The page as a file beside the run's others, written when the run is first shown."""
    path = run.folder / "report.html"
    if not path.is_file():
        path.write_text(report_page(run), encoding="utf-8")
    return path


def report_page(run: Run) -> str:
    """The headline, the gates, every view's numbers, the slots, the worst texts and the settings."""
    parts = [
        headline_html(run),
        gate_html(run),
        _views(run),
        collapse_html(run),
        _slots(run),
        _worst(run),
        _settings(run),
    ]
    body = "".join(f"<section>{part}</section>" for part in parts)
    return _FRAME.format(title=esc(f"CED-KV {run.id}"), style=STYLE.read_text(encoding="utf-8"), body=body)


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
            f'{token(item["text"])} <span class="muted">{number(item["weight"])} {esc(item["role"])}</span>'
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
    return f'<div class="ck"><h3>settings</h3><pre class="mono">{esc(text)}</pre></div>'


def _table(title: str, names: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{esc(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="ck"><h3>{esc(title)}</h3><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )
