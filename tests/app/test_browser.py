"""The inspector in a real browser with the embedded model: what a user sees, not only that nothing broke."""

import re

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect  # noqa: E402


def test_pasted_demonstrations_run_compare_and_show_their_spans(page):
    page.get_by_text("paste demonstrations").click()
    lines = ["lift -> lifted", "walk -> walked", "play -> played", "open -> opened", "call -> called", "ask -> asked"]
    page.locator("#paste textarea").fill("\n".join(lines))
    page.get_by_role("button", name="Use these").click()
    expect(page.locator("#demos").get_by_text("lifted", exact=True).last).to_be_visible()
    page.locator("#run").click()
    columns = page.locator("#columns .ck-col")
    expect(columns).to_have_count(3)
    expect(page.locator("#columns [data-view=teacher] .said")).to_contain_text("jumped")
    fills = page.locator("#columns [data-view=teacher] .fill")
    assert fills.first.bounding_box()["width"] > fills.nth(1).bounding_box()["width"]
    page.get_by_role("tab", name="Slots").click()
    chosen = page.locator("#demo-text .ck-tok[style*=rgb]")
    expect(chosen.first).to_be_visible()
    assert 1 < chosen.count() <= 16
    expect(page.locator("#headline")).to_contain_text(re.compile("Select-KV.*Gate A not run", re.S))
