"""The strip of sizes: measuring it, choosing a place on it, and the ring around what is shown."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from cedkv.events import Progress
from components.desk import Desk
from components.handlers import DRAWING, drawn, session_of, told, told_stream, waiting_line
from components.request import read_request
from components.sizes import place_of, places_html, sizes_figure, stage_html
from components.tabs.frame import Page

if TYPE_CHECKING:
    from cedkv.session.strip import Strip


def wire_sizes(page: Page, desk: Desk) -> None:
    """What a chosen place starts is wired with the other runs."""
    sizes, setup = page.sizes, page.setup

    def shown(session: str, strip: "Strip") -> tuple[int, float] | None:
        """The place of the run that the page shows now, which may have changed since the measuring began."""
        run_id = desk.store.shown(session)
        return place_of(desk.store.get(session, run_id), strip) if run_id else None

    @told_stream
    def measure(request: gr.Request, *rail: Any) -> Iterator[tuple[Any, ...]]:
        session, asked = session_of(request), read_request(setup.form, rail)
        config = desk.service.prepare(session, asked.config, asked.demos, asked.own)
        for strip in desk.service.looks.strip(config):
            if isinstance(strip, Progress):
                yield gr.skip(), stage_html(strip.stage), gr.skip()
            elif strip.points:
                yield drawn(sizes_figure(strip, shown(session, strip))), places_html(strip), strip

    def choose(event: gr.EventData) -> tuple[int, float, float]:
        return int(event.slots), float(event.weight), time.monotonic()

    @told
    def ring(run_id: str, strip: Any, request: gr.Request) -> Any:
        if strip is None or not run_id:
            return gr.skip()
        return drawn(sizes_figure(strip, place_of(desk.store.get(session_of(request), run_id), strip)))

    sizes.measure.click(
        measure, setup.inputs(), [sizes.plot, sizes.places, sizes.found], show_progress="minimal",
        show_progress_on=sizes.measure, **waiting_line("sizes"),
    )  # fmt: skip
    sizes.places.click(choose, None, sizes.chosen, **DRAWING)
    page.run_id.change(ring, [page.run_id, sizes.found], sizes.plot, **DRAWING)
