"""What tests in a browser do to the page."""

import re
from contextlib import suppress

from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def at_least(count: int, parts) -> None:
    """Wait until so many parts are there."""
    expect(parts.nth(count - 1)).to_be_attached()


def open_menu(page, header) -> None:
    """A column's menu has a button while the pointer is on its header, which moves as long as the page is laid out."""
    button = header.get_by_label("Open cell menu")
    for _ in range(60):
        header.hover()
        with suppress(PlaywrightTimeout):  # the header has gone from under the pointer: follow it
            return button.click(timeout=1000)
    raise AssertionError("the column's menu has no button that can be clicked")


def reload_when_quiet(page, streams: set) -> None:
    """Load the page again once nothing is on its way for a second: what a page leaves there, it complains of."""
    quiet = 0
    while quiet < 10:
        page.wait_for_timeout(100)
        quiet = 0 if streams else quiet + 1
    page.reload()


def streams_of(page) -> set:
    """The streams of answers that are open from now on: gradio closes one when all that was asked is answered."""
    streams: set = set()
    page.on("request", lambda request: streams.add(request) if "/queue/data" in request.url else None)
    for ended in ("requestfinished", "requestfailed"):
        page.on(ended, lambda request: streams.discard(request))
    return streams


def choose(page, box: str, text: str) -> None:
    """Pick the option of a dropdown whose name contains a text."""
    page.locator(f"{box} input").click()
    page.get_by_role("option", name=re.compile(re.escape(text))).first.click()
