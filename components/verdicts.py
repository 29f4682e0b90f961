"""Verdicts as HTML: both gates row by row, and whether the slots have become copies of each other."""

import math

from cedkv.report import CriterionRow
from cedkv.session.runs import Run
from components.headline import empty_html, not_judged_html, stat
from components.text import esc, exact_number, number


def gate_html(run: Run | None, alone: bool = False) -> str:
    """Both gates of a run. `alone` is in a file of its own, where there is nothing to press."""
    if run is None or not run.report.get("gate_a"):
        asks = "unseen queries are asked and OFF texts read; the line below the form’s buttons says how far it is"
        return not_judged_html(run, asks, alone)
    return criteria_html(run.report["gate_a"], run.report.get("gate_b", []))


def criteria_html(gate_a: list[CriterionRow], gate_b: list[CriterionRow]) -> str:
    """Both gates as tables, from the report's own rows."""
    titles = {"B": "Gate B · does the state work, and is it harmless?", "A": "Gate A · is the plumbing sound?"}
    tables = [_table(titles[gate], rows) for gate, rows in (("B", gate_b), ("A", gate_a)) if rows]
    return f'<div class="ck">{"".join(tables)}</div>'


def margin(value: float, op: str, threshold: float) -> float:
    """How far a value is on the right (positive) or wrong side of its threshold, -1 to 1, as a share of the larger."""
    distance = value - threshold if op == ">=" else threshold - value
    scale = max(abs(value), abs(threshold))
    return max(-1.0, min(1.0, distance / scale)) if scale else 0.0


def collapse_html(run: Run | None) -> str:
    """The verdict and the numbers behind it, from the report."""
    if run is None:
        return empty_html("No slots yet", "Press Run: slots that have become copies of each other are named here.")
    if not (collapse := run.report.get("collapse")):
        return empty_html("No slots", "This run was cut short before its slots were compared.")
    slots = run.report["slots_budget"]
    stats = [
        stat("effective rank, values", number(collapse["effective_rank_values"], 1), f"of {slots}"),
        stat("effective rank, keys", number(collapse["effective_rank_keys"], 1), f"of {slots}"),
        stat(
            "largest value cosine",
            number(collapse["value_cosine_max"]),
            f"mean {number(collapse['value_cosine_mean'])}",
        ),
        stat("largest overlap", number(collapse["overlap_max"]), f"mean {number(collapse['overlap_mean'])}"),
    ]
    verdict = esc(collapse["verdict"][0].upper() + collapse["verdict"][1:])
    return f'<div class="ck ck-head"><div class="what">{verdict}.</div>{"".join(stats)}</div>'


def _table(title: str, rows: list[CriterionRow]) -> str:
    names = ("asks", "value", "", "threshold", "margin", "verdict")
    head = "".join(f'<th class="{"num" if name in ("value", "threshold") else ""}">{name}</th>' for name in names)
    return (
        f'<h3>{esc(title)}</h3><div class="ck-scroll"><table class="ck-gate"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(map(_row, rows))}</tbody></table></div>"
    )


def _row(row: CriterionRow) -> str:
    share = margin(row["value"], row["op"], row["threshold"])
    left, width = (50, share * 50) if share >= 0 else (50 + share * 50, -share * 50)
    color = "var(--ck-muted)" if row["passed"] else "var(--ck-fail)"
    verdict = "pass" if row["passed"] else "fail"
    sign = {">=": "≥", "<=": "≤"}.get(row["op"], esc(row["op"]))
    return (
        f'<tr data-name="{esc(row["name"])}"><td>{esc(row["about"])}<br>'
        f'<span class="muted mono">{esc(row["name"])}</span></td>'
        f'<td class="num">{_shown(row["value"])}</td><td>{sign}</td><td class="num">{_shown(row["threshold"])}</td>'
        f'<td><div class="ck-margin" title="{share:+.0%} of the larger of value and threshold">'
        f'<span class="fill" style="left:{left:.1f}%;width:{width:.1f}%;background:{color}"></span>'
        f'<span class="line"></span></div></td><td><span class="ck-verdict {verdict}">{verdict}</span></td></tr>'
    )


def _shown(value: float) -> str:
    return exact_number(value) if math.isfinite(value) else esc(value)
