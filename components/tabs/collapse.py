"""Collapse: are the slots different from each other, in numbers and in plain words?"""

from dataclasses import dataclass

import gradio as gr

from cedkv.session.runs import Run
from components.headline import empty_html, stat
from components.text import esc, number


@dataclass(frozen=True)
class CollapseTab:
    verdict: gr.HTML
    values: gr.Plot
    keys: gr.Plot
    attribution: gr.Plot
    roles: gr.Plot


def build_collapse() -> CollapseTab:
    verdict = gr.HTML(collapse_html(None), elem_id="collapse-verdict")
    with gr.Row():
        values = gr.Plot(show_label=False, visible=False, elem_id="cosine-values", min_width=280)
        keys = gr.Plot(show_label=False, visible=False, elem_id="cosine-keys", min_width=280)
        attribution = gr.Plot(show_label=False, visible=False, elem_id="overlap", min_width=280)
    roles = gr.Plot(show_label=False, visible=False, elem_id="role-mass")
    return CollapseTab(verdict, values, keys, attribution, roles)


def collapse_html(run: Run | None) -> str:
    """The verdict and the numbers behind it, from the report."""
    collapse = run.report.get("collapse") if run else None
    if not collapse:
        return empty_html("No slots yet", "Press Run: slots that have become copies of each other are named here.")
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
