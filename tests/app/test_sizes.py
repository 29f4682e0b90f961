"""In a real browser: the strip of sizes above the tabs, demonstrations one by one, a reload, a report to take along."""

import re

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect  # noqa: E402

expect.set_options(timeout=150_000)
LONG = 400_000
pytestmark = pytest.mark.timeout(1200)


def unfold(page, name: str) -> None:
    page.get_by_role("button", name=re.compile(name)).click()


def test_a_size_that_is_measured_opens_as_a_run_which_a_reload_keeps(page):
    unfold(page, "how many slots")
    page.locator("#measure-sizes").click()
    expect(page.locator("#sizes-places [data-slots='16']")).to_be_visible(timeout=LONG)
    expect(page.locator("#sizes-places")).not_to_contain_text("measuring", timeout=LONG)
    names = ["chunked slots", "demonstrations", "Select-KV"]
    expect(page.locator("#sizes-plot .legendtext")).to_have_text(names)
    page.locator("#sizes-places [data-slots='4']").first.click()
    expect(page.locator("#headline h2")).to_contain_text("S=4", timeout=LONG)
    expect(page.locator("#sizes-plot .legendtext", has_text="shown now")).to_be_visible()
    page.locator("#take").click()
    expect(page.locator("#slots input[type=number]")).to_have_value("4")
    page.get_by_role("tab", name="Gate").click()
    with page.expect_download() as download:
        page.locator("#download-page").click()
    check_report(page, download.value.path())
    page.reload()
    expect(page.locator("#headline h2")).to_contain_text("S=4")
    page.get_by_role("tab", name="Runs").click()
    expect(page.locator("#history")).to_contain_text("chunked-present-past")


def check_report(page, path) -> None:
    """The file shows its plots where nothing else can be reached, on a phone too."""
    report = page.context.browser.new_page(viewport={"width": 390, "height": 844}, offline=True)
    report.set_content(path.read_text(encoding="utf-8"))
    expect(report.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    expect(report.locator(".heatmaplayer image").first).to_be_attached()
    assert report.evaluate("document.documentElement.scrollWidth") <= 390
    assert "runs/app" not in path.read_text(encoding="utf-8")
    report.close()


def test_demonstrations_are_examined_and_moved_by_keyboard(page):
    unfold(page, "look at them one by one")
    first, second = page.locator("#rows [data-row='0'] bdi"), page.locator("#rows [data-row='1'] bdi")
    expect(first.first).to_be_visible()
    was = first.first.inner_text()
    page.locator("#rows [data-row='0'] [data-move='1']").press("Enter")
    expect(second.first).to_have_text(was)
    expect(page.locator("#rows [data-row='1'] [data-move='1']")).to_be_focused()
    page.locator("#examine").click()
    expect(page.locator("#rows [data-order]")).to_have_count(3, timeout=LONG)
    expect(page.locator("#rows .ck-part")).to_have_count(10)
    page.locator("#rows [data-order]").first.click()
    expect(page.locator("#rows [data-row='8'] bdi").first).to_have_text(was)
