"""In a real browser: the strip of sizes above the tabs."""

import re
from urllib.parse import urlencode

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect  # noqa: E402

from tests.app.conftest import open_page  # noqa: E402

expect.set_options(timeout=150_000)
LONG = 400_000  # milliseconds, for what the model measures on cores that others use
pytestmark = pytest.mark.timeout(1200)
# A strip of few queries: the same code, soon there.
QUICK = "episode: {demos: 4, on_train: 4}\nphase2: {eval: {on_samples: 3}}\n"
NUMBERS = re.compile(r"S = 1: first token [\d.]+, KL [\d.]+, OFF p99 [\d.]+")


def test_a_place_on_the_strip_opens_as_the_run_that_the_ring_stands_on(browser, server):
    """The first place is there to be opened while the others are still measured."""
    for page in open_page(browser, f"{server}/?{urlencode({'settings': QUICK})}"):
        expect(page.locator("#status")).to_contain_text("restored from the link")
        page.get_by_role("button", name=re.compile("how many slots")).click()
        page.locator("#measure-sizes").click()
        legend = page.locator("#sizes-plot .legendtext")
        page.locator("#sizes-places").get_by_role("button", name=NUMBERS).click(timeout=LONG)
        expect(page.locator("#headline h2")).to_contain_text("S=1 · chunked", timeout=LONG)
        expect(legend.filter(has_text="shown now")).to_be_visible()
        expect(legend.filter(has_text="demonstrations")).to_be_visible()
        expect(page.locator("#sizes-places")).to_contain_text("3 unseen queries, and 24 other texts")
