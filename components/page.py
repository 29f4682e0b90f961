"""The whole page: the rail, the headline and the tabs put together, with nothing wired yet."""

from collections.abc import Sequence

import gradio as gr

from cedkv.config import Config
from cedkv.session.limits import Limits
from cedkv.session.runs import Run
from components.headline import ANCHORS, headline_html, intro_html, top_html
from components.setup import build_setup
from components.sizes import build_sizes
from components.tabs.frame import Page, Parts, Tab


def build_page(blocks: gr.Blocks, limits: Limits, config: Config, opening: Run | None, tabs: Sequence[Tab]) -> Page:
    """Every part of the page, inside the Blocks that are being built.

    opening : the run that the page opens on. What is seen of it first comes with the page and waits for no event.
    """
    run_id = gr.State("")
    top = gr.HTML(top_html("loading", "", "starting the engine"), elem_id="top")
    with gr.Row(elem_classes="ck-page"):
        with gr.Column(scale=3, min_width=310, elem_id="rail"):
            setup = build_setup(limits, config)
        with gr.Column(scale=9, min_width=320, elem_id="main"):
            gr.HTML(intro_html(), elem_id="intro", js_on_load=ANCHORS)
            headline = gr.HTML(headline_html(opening), elem_id="headline")
            with gr.Row(elem_classes="ck-of-run"):
                judge = gr.Button("Judge this state", size="sm", visible=False, elem_id="judge", min_width=140)
                take = gr.Button("Its settings into the form", size="sm", elem_id="take", min_width=180)
            sizes = build_sizes()
            with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as strip:  # a phone shows them all
                built = {tab: _built(tab, opening) for tab in tabs}
    return Page(blocks, config, run_id, top, setup, headline, judge, take, sizes, strip, built)


def _built(tab: Tab, opening: Run | None) -> Parts:
    with gr.Tab(tab.name, id=tab.id):
        return tab.build(opening)
