"""Runs: showing an earlier one, opening files, pinning two, and the link to the settings."""

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from components.desk import Desk
from components.figures import slot_heatmap
from components.handlers import DRAWING, MODEL_QUEUE, drawn, told
from components.headline import empty_html
from components.page import Page
from components.request import read_request
from components.settings import compact_yaml
from components.tabs.frame import show_run
from components.tabs.off_effect import off_figure
from components.tabs.runs import pinned_html
from components.wiring.start import demos_as_lines

# A refused file must not lay its error over everything that a run would have filled; a message tells it.
_OPENING = {**MODEL_QUEUE, "show_progress": "hidden", "api_visibility": "public", "api_name": "open"}


# The link as it can be passed on, with the host that only the browser knows.
_TO_ADDRESS_BAR = "(link) => { history.replaceState(null, '', link); return location.href; }"


def wire_runs(page: Page, desk: Desk) -> None:
    tab = page.runs

    @told
    def show(request: gr.Request, chosen: gr.SelectData) -> dict:
        run = desk.store.get(request.session_hash, str(chosen.row_value[0]))
        return show_run(page, desk, request.session_hash, run)

    @told
    def upload(paths: list[str], request: gr.Request) -> dict:
        files = [Path(path) for path in paths]
        run = desk.service.open_files(request.session_hash, files, [file.name for file in files])
        return show_run(page, desk, request.session_hash, run)

    @told
    def pin(left: str, right: str, request: gr.Request) -> list[Any]:
        if not (left and right):
            return [empty_html("One more", "Choose a second run to see where they differ."), *[drawn(None)] * 4]
        runs = [desk.store.get(request.session_hash, name) for name in (left, right)]
        return [
            pinned_html(*runs),
            *(drawn(_map(desk, run)) for run in runs),
            *(drawn(off_figure(run, "stress", [])) for run in runs),
        ]

    tab.history.select(show, None, page.shown(), **DRAWING)
    tab.upload.upload(upload, tab.upload, page.shown(), **_OPENING)
    gr.on([tab.left.input, tab.right.input], pin, [tab.left, tab.right], [tab.pinned, *tab.maps, *tab.offs], **DRAWING)
    _wire_link(page, desk)


def _wire_link(page: Page, desk: Desk) -> None:
    setup = page.setup

    @told
    def link(query: str, *rail: Any) -> Any:
        return gr.Textbox(value=permalink(desk, read_request(setup.form, rail), query), visible=True)

    page.runs.share.click(link, [page.compare.query, *setup.inputs()], page.runs.link, **DRAWING).then(
        None,
        page.runs.link,
        page.runs.link,
        js=_TO_ADDRESS_BAR,
        **DRAWING,
    )


def permalink(desk: Desk, asked: Any, query: str) -> str:
    """The part of an address that restores these settings, also after a restart."""
    parameters = {"settings": compact_yaml(asked.config), "method": asked.method, "query": query}
    if asked.own or asked.demos != desk.service.task_demos(asked.config):
        parameters["demos"] = demos_as_lines(asked.demos)
    return "?" + urlencode({name: value for name, value in parameters.items() if value})


def _map(desk: Desk, run: Any) -> Any:
    if not run.student or run.prefix(run.student).mixture is None:
        return None
    slots = desk.service.slot_map(run, run.student)
    return slot_heatmap(slots.weights, slots.texts, slots.roles, named=False)
