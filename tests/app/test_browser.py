"""The inspector in a real browser with the embedded model: what a user sees, not only that nothing broke."""

import json
import re
from urllib.parse import urlencode

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect  # noqa: E402

from tests.app.conftest import open_page  # noqa: E402

expect.set_options(timeout=40_000)  # two busy cores

# A gate that takes seconds: the same code, fewer queries and texts.
QUICK = "episode: {on_train: 4}\nphase2: {eval: {on_samples: 3, off_samples: 9, n_random_trials: 1}}\n"
DEMOS = "lift -> lifted\nwalk -> walked\nplay -> played\n<b>x</b> -> <s>$x$\ncall -> called\nask -> asked"


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def shade(locator) -> str:
    return locator.evaluate("e => getComputedStyle(e).backgroundColor")


def test_the_page_opens_on_a_finished_example_that_fills_every_tab(page):
    expect(page.locator("#headline")).to_contain_text(re.compile("example.*Gate A passed", re.S))
    expect(page.locator("#columns .ck-col")).to_have_count(3)
    expect(page.locator("#on-table")).to_contain_text("✓")
    open_tab(page, "Slots")
    expect(page.locator("#slot-heatmap .heatmaplayer image").first).to_be_attached()
    open_tab(page, "Collapse")
    for name in ("cosine-values", "cosine-keys", "overlap"):
        expect(page.locator(f"#{name} .heatmaplayer image").first).to_be_attached()
    assert page.locator("#role-mass .barlayer path").count() >= 8
    open_tab(page, "OFF effect")
    assert page.locator("#off-histograms .barlayer path").count() > 9
    open_tab(page, "Training")
    assert page.locator("#training-curves .scatterlayer .trace").count() >= 6
    open_tab(page, "Gate")
    expect(page.locator("#gate-table tr[data-name]").first).to_be_visible()
    assert page.locator("#gate-table .ck-margin .fill").first.bounding_box()["width"] > 0


def test_slots_tokens_and_cells_choose_each_other(page):
    open_tab(page, "Slots")
    tokens = page.locator("#demo-text [data-token]")
    shaded = page.locator("#demo-text [data-token][style*=rgb]")
    expect(shaded.first).to_be_visible()
    shaded.last.click()
    expect(page.locator("#slot-card h3")).to_have_text(re.compile(r"slot \d+"))
    chosen = page.locator("#slot input[type=number]").input_value()
    expect(page.locator("#slot-card h3")).to_have_text(f"slot {chosen}")
    assert shaded.count() < tokens.count()
    page.locator("#layer input[type=number]").fill("2")
    page.locator("#layer input[type=number]").press("Enter")
    expect(page.locator("#slot-card")).to_contain_text("weight")
    box = page.locator("#slot-heatmap .nsewdrag").bounding_box()
    page.mouse.click(box["x"] + 6, box["y"] + 4)
    expect(page.locator("#slot-card h3")).to_have_text("slot 1")


def test_switching_a_slot_off_shows_the_answers_without_it(page):
    open_tab(page, "Slots")
    shaded = page.locator("#demo-text [data-token][style*=rgb]").first
    expect(shaded).to_be_visible()  # the example is shown, so that only the slot is missing
    page.locator("#ablate").click()
    expect(page.get_by_text("choose a slot first")).to_be_visible()
    shaded.click()
    expect(page.locator("#slot-card h3")).to_have_text(re.compile(r"slot \d+"))
    page.locator("#ablate").click()
    expect(page.locator("#effect .ck-col")).to_have_count(4)
    expect(page.locator("#effect [data-view=changed] .kl")).to_contain_text("KL to teacher")


def test_an_off_text_opens_in_compare_as_it_is(page):
    open_tab(page, "OFF effect")
    page.locator("#worst").get_by_text("near_format", exact=True).locator("visible=true").first.click()
    expect(page.locator("#plain input")).to_be_checked()
    expect(page.locator("#columns")).not_to_contain_text("Q: jump")


def test_pasted_demonstrations_run_and_show_hostile_text_literally(page):
    page.get_by_text("paste demonstrations").click()
    page.locator("#paste textarea").fill(DEMOS)
    page.get_by_role("button", name="Use these").click()
    expect(page.locator("#demos").get_by_text("lifted", exact=True).last).to_be_visible()
    page.locator("#task input").click()
    page.get_by_role("option", name="present-past", exact=True).click()
    page.get_by_role("button", name="Use these").click()
    expect(page.locator("#task input")).to_have_value("(my own demonstrations)")
    page.locator("#run").click()
    expect(page.locator("#status .done")).to_contain_text("done in", timeout=120_000)
    expect(page.locator("#headline")).to_contain_text(re.compile("demonstrations.*Gate A not run", re.S))
    open_tab(page, "Slots")
    expect(page.locator("#demo-text")).to_contain_text("<b")
    assert page.locator("#demo-text b, #demo-text s").count() == 0


def test_a_link_restores_settings_and_the_gate_fills_the_tabs(browser, server):
    query = urlencode({"settings": QUICK, "query": "walk"})
    for page in open_page(browser, f"{server}/?{query}"):
        expect(page.locator("#query textarea")).to_have_value("walk")
        expect(page.locator("#status")).to_contain_text("restored from the link")
        page.locator("#gate").click()
        expect(page.locator("#status .done")).to_contain_text("done in", timeout=150_000)
        expect(page.locator("#headline")).not_to_contain_text("example")
        expect(page.locator("#columns")).to_contain_text("walk")
        open_tab(page, "Gate")
        assert page.locator("#gate-table tr[data-name]").count() == 10
        with page.expect_download() as download:
            page.locator("#download-report").click()
        report = json.loads(download.value.path().read_text())
        shown = page.locator("#gate-table tr[data-name=on_gain] .num").first.inner_text()
        assert shown == f"{report['gate_b'][0]['value']:.2f}"
        open_tab(page, "Runs")
        expect(page.locator("#history")).to_contain_text(report["run_id"])


def test_cancel_stops_a_run_and_the_next_one_starts(browser, server):
    settings = "phase3: {optim: {steps: 200}}"
    for page in open_page(browser, f"{server}/?{urlencode({'settings': settings, 'method': 'ced'})}"):
        expect(page.locator("#status")).to_contain_text("restored from the link")
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("step", timeout=120_000)
        open_tab(page, "Training")
        expect(page.locator("#training-curves .scatterlayer .trace").first).to_be_attached()
        page.locator("#cancel").click()
        expect(page.locator("#status .cancelled")).to_contain_text("cancel", timeout=30_000)
        open_tab(page, "Compare")
        page.locator("#ask").click()
        expect(page.locator("#columns .ck-col")).to_have_count(3)


def test_a_hostile_upload_is_refused_by_name(page, tmp_path):
    open_tab(page, "Runs")
    fake = tmp_path / "evil.safetensors"
    fake.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR." * 20)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open files of a run").click()
    chooser.value.set_files(fake)
    expect(page.get_by_text(re.compile("'evil.safetensors'.*damaged"))).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_sideways_scrolling(browser, server, scheme):
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme}
    for page in open_page(browser, f"{server}/?__theme={scheme}", **phone):
        expect(page.locator("#headline .what")).to_contain_text("example")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        ink, paper = (
            page.locator("#headline .what").evaluate("e => getComputedStyle(e).color"),
            shade(page.locator("body")),
        )
        assert brightness(ink) < brightness(paper) if scheme == "light" else brightness(ink) > brightness(paper)


def brightness(color: str) -> float:
    return sum(float(part) for part in re.findall(r"[\d.]+", color)[:3])
