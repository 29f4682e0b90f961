"""In a real browser: the finished example that the page opens on, looked at from all sides in one page."""

import json
import re

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect  # noqa: E402

from tests.app.test_diagnosis import a_diagnosis  # noqa: E402
from tests.app.use import at_least, choose, open_menu, open_tab  # noqa: E402

expect.set_options(timeout=150_000)
pytestmark = pytest.mark.timeout(1200)


def test_the_page_opens_on_a_finished_example_that_fills_every_tab(opened):
    page = opened.page()
    expect(page.locator("#headline")).to_contain_text(re.compile("example.*Gate A passed", re.S))
    expect(page.locator("#columns .ck-col")).to_have_count(3)
    expect(page.locator("#on-table")).to_contain_text("✓")
    open_tab(page, "Slots")
    expect(page.locator("#slot-heatmap .heatmaplayer image").first).to_be_attached()
    open_tab(page, "Collapse")
    for name in ("cosine-values", "cosine-keys", "overlap"):
        expect(page.locator(f"#{name} .heatmaplayer image").first).to_be_attached()
    at_least(8, page.locator("#role-mass .barlayer path"))
    open_tab(page, "OFF effect")
    at_least(10, page.locator("#off-histograms .barlayer path"))
    open_tab(page, "Training")
    at_least(6, page.locator("#training-curves .scatterlayer .trace"))
    open_tab(page, "Gate")
    expect(page.locator("#gate-table tr[data-name]").first).to_be_visible()
    expect(page.locator("#gate-table .ck-margin .fill").first).to_be_visible()  # visible means wider than nothing


def test_slots_tokens_and_cells_choose_each_other(opened):
    page = opened.page()
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
    page.locator("#slot-heatmap .nsewdrag").click(position={"x": 6, "y": 4})  # waits for the redrawn figure
    expect(page.locator("#slot-card h3")).to_have_text("slot 1")


def test_kv_heads_have_a_slider_only_where_each_has_its_own_mixture(opened):
    page = opened.page()
    open_tab(page, "Slots")
    page.locator("#slot input[type=number]").fill("3")
    page.locator("#slot input[type=number]").press("Enter")
    expect(page.locator("#slot-card h3")).to_have_text("slot 3")
    expect(page.locator("#slot-card")).to_contain_text("counts as")
    mean = page.locator("#slot-card").inner_text()
    head = page.locator("#head input[type=number]")
    expect(head).to_have_value("0")
    head.fill("2")
    head.press("Enter")
    expect(page.locator("#slot-card")).not_to_have_text(mean, use_inner_text=True)
    page.locator("#slot-method").get_by_text("Select-KV", exact=True).click()
    expect(page.locator("#head")).to_have_count(0)
    expect(page.locator("#layer input[type=number]")).to_be_disabled()
    page.locator("#slot-method").get_by_text("CED mixture", exact=True).click()
    expect(head).to_be_visible()
    head.fill("0")
    head.press("Enter")


def test_an_off_text_opens_in_compare_as_it_is_and_is_explained_by_position(opened):
    page = opened.page()
    open_tab(page, "OFF effect")
    page.locator("#worst").get_by_text("near_format", exact=True).locator("visible=true").first.click()
    expect(page.locator("#plain input")).to_be_checked()
    expect(page.locator("#columns")).not_to_contain_text("Q: jump")
    expect(page.locator("#why")).to_contain_text("which slot disturbs this text")
    expect(page.locator("#why [data-why-token][style*=rgb]").first).to_be_visible()
    page.locator("#plain input").uncheck()


def test_the_off_effect_before_and_after_training_stand_in_one_plot(opened):
    page = opened.page()
    open_tab(page, "OFF effect")
    expect(page.locator("#off-also").get_by_label("chunked, untrained")).to_be_checked()
    drawn = page.locator("#off-histograms .barlayer path")
    expect(drawn.first).to_be_attached()
    both = drawn.count()
    page.locator("#off-also").get_by_text("chunked, untrained").click()
    names = ["CED mixture", "an ordinary paragraph", "demonstrations", "p99", "what the gate allows"]
    expect(page.locator("#off-histograms .legendtext")).to_have_text(names)
    expect(drawn).not_to_have_count(both)
    assert drawn.count() < both
    page.locator("#off-also").get_by_text("chunked, untrained").click()
    expect(drawn).to_have_count(both)


def test_the_gates_queries_can_be_filtered_and_open_above(opened):
    page = opened.page()
    inputs = page.locator("#on-table [role=gridcell][data-col='0']")
    expect(inputs.nth(2)).to_be_visible()
    asked = inputs.nth(2).inner_text().strip()
    page.locator("#on-table .search-input").fill(asked)
    expect(inputs).to_have_text([asked])
    inputs.first.click()
    expect(page.locator("#query textarea")).to_have_value(asked)
    expect(page.locator("#columns .ck-asked")).to_contain_text(asked)
    expect(page.locator("#query")).to_be_in_viewport()
    page.locator("#on-table .search-input").fill("")
    expect(inputs.nth(2)).to_be_visible()


def test_the_gates_queries_can_be_sorted(opened):
    page = opened.page()
    inputs = page.locator("#on-table [role=gridcell][data-col='0']")
    expect(inputs.nth(2)).to_be_visible()
    unsorted = inputs.all_inner_texts()
    for order, reverse in (("ascending", False), ("descending", True)):
        header = page.locator("#on-table [role=columnheader]").first
        open_menu(page, header)
        page.get_by_role("menuitem", name=f"Sort {order}").click()
        expect(inputs).to_have_text(sorted(unsorted, reverse=reverse))


def test_typed_settings_are_marked_until_they_are_taken_over(page):
    page.get_by_text("advanced settings").click()
    page.get_by_text("as YAML").click()
    text, apply = page.locator("#yaml .cm-content"), page.locator("#apply")
    expect(apply).to_have_text("Apply")
    text.fill("phase2: {prefix_len: lots}")
    expect(apply).to_contain_text("does not heed it yet")
    apply.click()
    expect(page.get_by_text(re.compile("line 1.*prefix_len"))).to_be_visible()
    expect(apply).to_contain_text("does not heed it yet")
    text.fill("phase2: {prefix_len: 9}")
    apply.click()
    expect(page.locator("#prefix-len input[type=number]")).to_have_value("9")
    expect(apply).to_have_text("Apply")


def test_a_diagnosis_is_opened_from_a_file_begun_and_stopped(opened, tmp_path):
    page = opened.page()
    path = tmp_path / "diagnosis.json"
    path.write_text(json.dumps(a_diagnosis()))
    open_tab(page, "Diagnosis")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="A diagnosis.json").click()
    chooser.value.set_files(path)
    expect(page.locator("#diagnosis-findings")).to_contain_text("too <few>")
    at_least(9, page.locator("#diagnosis-plot .scatterlayer .trace"))
    stop = page.locator("#diagnose-stop")
    expect(stop).to_be_hidden()
    page.locator("#diagnose").click()
    expect(page.locator("#diagnosis-findings .busy")).to_contain_text("diagnosing: slots")
    expect(page.locator("#diagnosis-plot .js-plotly-plot")).to_have_count(0)
    stop.click()
    expect(page.locator("#diagnosis-findings")).to_contain_text("Stopped")
    expect(stop).to_be_hidden()


def test_a_hostile_upload_is_refused_by_name(opened, tmp_path):
    page = opened.page()
    open_tab(page, "Runs")
    fake = tmp_path / "evil.safetensors"
    fake.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR." * 20)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open files of a run, or a session").click()
    chooser.value.set_files(fake)
    expect(page.get_by_text(re.compile("'evil.safetensors'.*is no safetensors file"))).to_be_visible()
    # Nothing lies over the page: what a run would have filled can still be used.
    choose(page, "#pin-left", "present-past · CED mixture · S=8")
    expect(page.locator("#pinned")).to_contain_text("One more")
    open_tab(page, "Slots")
    page.locator("#slot input[type=number]").click()


def test_demonstrations_are_moved_by_keyboard(opened):
    page = opened.page()
    page.get_by_role("button", name=re.compile("look at them one by one")).click()
    first, second = page.locator("#rows [data-row='0'] bdi"), page.locator("#rows [data-row='1'] bdi")
    expect(first.first).to_be_visible()
    was = first.first.inner_text()
    page.locator("#rows [data-row='0'] [data-move='1']").press("Enter")
    expect(second.first).to_have_text(was)
    expect(page.locator("#rows [data-row='1'] [data-move='1']")).to_be_focused()


def test_arrow_keys_that_come_quickly_are_all_counted(opened):
    page = opened.page()
    panel = page.locator("#why")
    panel.locator("[data-why-slot='1']").click()
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    expect(panel.locator(".ck-why")).to_have_attribute("data-slot", "5")
    expect(panel.locator("[data-why-slot='5']")).to_be_focused()


def test_everything_that_can_be_typed_into_has_a_name_and_headings_form_an_outline(opened):
    page = opened.page()
    page.get_by_role("button", name=re.compile("paste demonstrations")).click()
    expect(page.get_by_role("textbox", name="pasted demonstrations")).to_be_visible()
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('input, textarea, select')].filter((box) => box.checkVisibility()
            && !box.labels?.length && !box.ariaLabel && !box.getAttribute('aria-labelledby') && !box.title
            && box.type !== 'file').map((box) => box.outerHTML.slice(0, 120))"""
    )
    assert unnamed == []
    levels = page.evaluate(
        """() => [...document.querySelectorAll('h1, h2, h3, h4')].filter((h) => h.checkVisibility())
            .map((h) => Number(h.tagName[1]))"""
    )
    assert levels.count(1) == 1 and 2 in levels
    assert all(b - a <= 1 for a, b in zip([0, *levels], levels, strict=False))
