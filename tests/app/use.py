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


def choose(page, box: str, text: str) -> None:
    """Pick the option of a dropdown whose name contains a text."""
    page.locator(f"{box} input").click()
    page.get_by_role("option", name=re.compile(re.escape(text))).first.click()
