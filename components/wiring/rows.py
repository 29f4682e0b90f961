"""Demonstrations as rows: drawn anew with every change, moved, and examined."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from components.demo_rows import demo_rows_html, reordered
from components.desk import Desk
from components.handlers import DRAWING, session_of, told_stream, waiting_line
from components.request import read_request, read_table
from components.tabs.frame import Page


def wire_rows(page: Page, desk: Desk) -> None:
    setup = page.setup

    def row_list(demos: list, examined: Any) -> str:
        return demo_rows_html(read_table(demos), examined)

    def reorder(demos: list, event: gr.EventData) -> list[list[str]]:
        return reordered(read_table(demos), event.order)

    @told_stream
    def examine(request: gr.Request, *rail: Any) -> Iterator[tuple[Any, str]]:
        asked = read_request(setup.form, rail)
        config = desk.service.prepare(session_of(request), asked.config, asked.demos, asked.own)
        for found in desk.service.looks.examine(config, asked.demos):
            yield found, demo_rows_html(asked.demos, found)

    setup.demos.change(row_list, [setup.demos, setup.examined], setup.rows, **DRAWING)
    setup.rows.input(reorder, setup.demos, setup.demos, **DRAWING)
    setup.examine.click(
        examine, setup.inputs(), [setup.examined, setup.rows], show_progress="minimal",
        show_progress_on=setup.examine, **waiting_line("examine"),
    )  # fmt: skip
