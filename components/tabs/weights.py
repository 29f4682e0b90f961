"""Weights: which tokens matter to each scorer of token weights, in the demonstrations, in the slots, and in a text."""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from cedkv.session.runs import Run
from components.desk import Desk
from components.handlers import SHORT_QUEUE, run_of, told
from components.tabs.frame import Page, Tab, Updates
from components.weights_text import nothing_weights_html, weights_html


@dataclass(frozen=True)
class WeightsParts:
    text: gr.Textbox
    weigh: gr.Button
    weighed: gr.HTML

    def shown(self) -> list[Component]:
        return [self.weighed]


def build(opening: Run | None) -> WeightsParts:
    with gr.Row():
        text = gr.Textbox(
            label="text to weigh", placeholder="empty: the demonstrations themselves", lines=2, max_lines=8,
            elem_id="text-to-weigh", scale=5,
        )  # fmt: skip
        weigh = gr.Button("Weigh tokens", variant="primary", elem_id="weigh", min_width=130)
    return WeightsParts(text, weigh, gr.HTML(nothing_weights_html(), elem_id="weighed"))


def show(parts: WeightsParts, run: Run) -> Updates:
    return {parts.weighed: nothing_weights_html()}


def wire(page: Page, desk: Desk) -> None:
    parts = page.part(WeightsParts)

    @told
    def weigh(run_id: str, text: str, request: gr.Request) -> str:
        desk.limits.check_query(text)
        return weights_html(desk.service.looks.weigh(run_of(desk, request, run_id), text))

    gr.on(
        [parts.weigh.click, parts.text.submit], weigh, [page.run_id, parts.text], parts.weighed,
        show_progress="minimal", **SHORT_QUEUE,
    )  # fmt: skip


TAB = Tab("Weights", "weights", build, show, wire=wire)
