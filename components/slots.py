"""Slots: the demonstrations as tokens, coloured by what a slot takes from them, and the slots' own tokens."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from cedkv.session.runs import Run
from components.headline import empty_html
from components.text import esc, number, token, visible


@dataclass(frozen=True)
class SlotsTab:
    demos: gr.HTML
    table: gr.HTML


def build_slots() -> SlotsTab:
    demos = gr.HTML(empty_html("No slots yet", "Press Run: the demonstrations appear here, coloured by what slots take."), elem_id="demo-text")
    table = gr.HTML("", elem_id="slot-table")
    return SlotsTab(demos, table)


def demo_text_html(texts: list[str], roles: list[str], mass: list[float], chosen: str) -> str:
    """The demonstration block token by token; the stronger the colour, the more of `chosen` comes from there."""
    top = max(mass, default=0) or 1
    parts = []
    for index, (text, role, weight) in enumerate(zip(texts, roles, mass, strict=True)):
        shade = f"background:rgb(224 112 44 / {weight / top:.3f})" if weight > 0 else ""
        parts.append(
            f'<button class="ck-tok {esc(role)}" data-token="{index}" style="{shade}" '
            f'title="token {index} · {esc(role)} · weight {weight:.3f}">{token(text)}</button>'
            + ("<br>" if text.endswith("\n\n") else "")
        )
    return (
        f'<div class="ck"><h3>the demonstrations, coloured by {esc(chosen)}</h3><div class="ck-demos">{"".join(parts)}</div>'
        '<div class="ck-legend"><span><i style="background:var(--ck-student)"></i>most weight here</span>'
        '<span><i style="border-bottom:2px solid #8b949e66"></i>input</span>'
        '<span><i style="border-bottom:2px solid #3f87d0aa"></i>output</span><span>no line: delimiter</span></div></div>'
    )


def slot_table_html(run: Run) -> str:
    """Per slot its heaviest tokens with their weights, from the report."""
    rows = "".join(map(_slot_row, run.report["slots"]))
    if not rows:
        return empty_html("Nothing to attribute", "These slots are free vectors: no demonstration token is behind them.")
    head = "<tr><th class=num>slot</th><th>tokens it is made of, with weights</th></tr>"
    return f'<div class="ck"><h3>slots</h3><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def _slot_row(slot: dict[str, Any]) -> str:
    tokens = " ".join(
        f'<span title="token {item["index"]} · {esc(item["role"])} · demonstration {item["demo"] + 1}">{token(item["text"])}'
        f'<span class="muted"> {number(item["weight"])} {esc(item["role"])}</span></span> &nbsp;'
        for item in slot["tokens"]
    )
    return f'<tr><td class="num">{slot["slot"] + 1}</td><td>{tokens or "<span class=muted>switched off</span>"}</td></tr>'


__all__ = ["SlotsTab", "build_slots", "demo_text_html", "slot_table_html", "visible"]
