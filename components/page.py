"""The whole page: one builder per part, put together, with nothing wired yet."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from cedkv.config import Config
from cedkv.session.limits import Limits
from cedkv.session.runs import Run
from components.example import example_comparison
from components.headline import empty_html, headline_html, top_html
from components.setup import Setup, build_setup
from components.tabs.collapse import CollapseTab, build_collapse
from components.tabs.compare import CompareTab, build_compare, comparison_html
from components.tabs.gate import GateTab, build_gate
from components.tabs.off_effect import OffTab, build_off
from components.tabs.runs import RunsTab, build_runs
from components.tabs.slots import SlotsTab, build_slots
from components.tabs.training import TrainingTab, build_training


@dataclass(frozen=True)
class Page:
    """Every part of the page. `run_id` names the run that is shown."""

    blocks: gr.Blocks
    config: Config
    run_id: gr.State
    tabs: gr.Tabs
    top: gr.HTML
    setup: Setup
    headline: gr.HTML
    compare: CompareTab
    slots: SlotsTab
    collapse: CollapseTab
    off: OffTab
    training: TrainingTab
    gate: GateTab
    runs: RunsTab

    def shown(self) -> list[gr.components.Component]:
        """What changes when another run is shown."""
        return [
            self.run_id, self.headline, self.compare.views, self.compare.table,
            *self.slots.chosen(), *self.slots.drawn(), self.slots.swap_run, self.slots.effect,
            self.collapse.verdict, self.collapse.values, self.collapse.keys, self.collapse.attribution,
            self.collapse.roles, self.off.note, self.off.also, self.off.histograms, self.off.worst,
            self.training.note, self.training.method, self.training.curves, self.gate.table,
            *self.gate.downloads.values(), self.gate.command, self.gate.python,
            self.runs.history, self.runs.left, self.runs.right,
        ]  # fmt: skip

    def compare_inputs(self) -> list[gr.components.Component]:
        return [self.run_id, self.compare.query, self.compare.plain, self.compare.views]


def build_page(blocks: gr.Blocks, limits: Limits, config: Config, opening: Run | None) -> Page:
    """Every part of the page, inside the Blocks that are being built.

    opening : the run that the page opens on. What is seen of it first comes with the page and waits for no event.
    """
    run_id = gr.State("")
    top = gr.HTML(top_html("loading", "", "starting the engine"), elem_id="top")
    with gr.Row(elem_classes="ck-page"):
        with gr.Column(scale=3, min_width=310, elem_id="rail"):
            setup = build_setup(limits, config)
        with gr.Column(scale=9, min_width=320, elem_id="main"):
            headline = gr.HTML(headline_html(opening), elem_id="headline")
            with gr.Tabs(elem_id="tabs") as tabs:
                compare = _tab("Compare", partial(build_compare, _columns(opening)))
                built = [compare, *(_tab(name, build) for name, build in _TABS.items())]
    return Page(blocks, config, run_id, tabs, top, setup, headline, *built)


_TABS = {
    "Slots": build_slots,
    "Collapse": build_collapse,
    "OFF effect": build_off,
    "Training": build_training,
    "Gate": build_gate,
    "Runs": build_runs,
}


def _columns(opening: Run | None) -> str:
    comparison = example_comparison() if opening else None
    if comparison is None:
        return empty_html("Nothing compared yet", "Press Run, then ask a query.")
    return comparison_html(comparison, opening.student)


def _tab(name: str, build: Callable[[], Any]) -> Any:
    with gr.Tab(name, id=name):
        return build()
