"""Collapse: are the slots different from each other, in numbers and in plain words?"""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from cedkv.session.runs import Run
from components.desk import Desk
from components.figures import similarity_matrix
from components.handlers import drawn
from components.headline import loading_html
from components.plots import take_away_plot
from components.run_figures import role_figure
from components.tabs.frame import Tab, Updates
from components.verdicts import collapse_html


@dataclass(frozen=True)
class CollapseParts:
    verdict: gr.HTML
    values: gr.Plot
    keys: gr.Plot
    attribution: gr.Plot
    roles: gr.Plot

    def shown(self) -> list[Component]:
        return [self.verdict, self.values, self.keys, self.attribution, self.roles]


def build(opening: Run | None) -> CollapseParts:
    verdict = gr.HTML(loading_html(opening, collapse_html(None)), elem_id="collapse-verdict")
    with gr.Row():
        values = take_away_plot("cosine-values")
        keys = take_away_plot("cosine-keys")
        attribution = take_away_plot("overlap")
    roles = take_away_plot("role-mass")
    return CollapseParts(verdict, values, keys, attribution, roles)


def show_states(parts: CollapseParts, desk: Desk, run: Run) -> Updates:
    verdict: Updates = {parts.verdict: collapse_html(run)}
    if not run.student:
        plots = (parts.values, parts.keys, parts.attribution, parts.roles)
        return {**verdict, **{plot: drawn(None) for plot in plots}}
    alike = desk.service.similarity(run, run.student)
    overlap = alike.get("attribution")
    return {
        **verdict,
        parts.values: drawn(similarity_matrix(alike["values"], "cosine of values")),
        parts.keys: drawn(similarity_matrix(alike["keys"], "cosine of keys")),
        parts.attribution: drawn(overlap and similarity_matrix(overlap, "overlap of attribution", low=0)),
        parts.roles: drawn(role_figure(run)),
    }


TAB = Tab("Collapse", "collapse", build, show_states=show_states)
