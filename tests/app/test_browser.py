"""The inspector in a real browser with the embedded model: what a user sees, not only that nothing broke."""

import json
import re
from contextlib import contextmanager
from urllib.parse import urlencode

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect  # noqa: E402

from benchmarks.running_app import running_app  # noqa: E402
from tests.app.conftest import open_page  # noqa: E402
from tests.app.test_diagnosis import a_diagnosis  # noqa: E402

# Every wait is for something that the page shows. The bounds are for what never comes, on two cores that others use.
expect.set_options(timeout=150_000)
LONG = 400_000  # milliseconds, for a run or a training
pytestmark = pytest.mark.timeout(1200)

# A gate that takes seconds: the same code, fewer queries and texts.
QUICK = "episode: {on_train: 4}\nphase2: {eval: {on_samples: 3, off_samples: 9, n_random_trials: 1}}\n"
# A training that is soon in its steps and long in them.
LONG_TRAINING = """phase3:
  optim: {steps: 200, matching_iterations: 10, tick_stress_samples: 9, tick_on_samples: 4}
  off_data: {candidates: 9, pool_size: 9}
"""
DEMOS = "lift -> lifted\nwalk -> walked\nplay -> played\n<b>x</b> -> <s>$x$\ncall -> called\nask -> asked"


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def at_least(count: int, parts) -> None:
    """Wait until so many parts are there."""
    expect(parts.nth(count - 1)).to_be_attached()


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
    at_least(8, page.locator("#role-mass .barlayer path"))
    open_tab(page, "OFF effect")
    at_least(10, page.locator("#off-histograms .barlayer path"))
    open_tab(page, "Training")
    at_least(6, page.locator("#training-curves .scatterlayer .trace"))
    open_tab(page, "Gate")
    expect(page.locator("#gate-table tr[data-name]").first).to_be_visible()
    expect(page.locator("#gate-table .ck-margin .fill").first).to_be_visible()  # visible means wider than nothing


def test_the_example_answers_a_new_query_from_an_empty_cache(browser, tmp_path):
    """The model is converted there and then, offline, and is still the one that the example was made with."""
    with running_app(tmp_path, CEDKV_CACHE=str(tmp_path / "cache")) as address:
        for page in open_page(browser, address, ready_ms=600_000):
            page.locator("#query textarea").fill("unlock")
            page.locator("#ask").click()
            expect(page.locator("#columns .ck-asked")).to_contain_text("unlock")
            expect(page.locator("#columns .ck-col")).to_have_count(3)


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
    page.locator("#slot-heatmap .nsewdrag").click(position={"x": 6, "y": 4})  # waits for the redrawn figure
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
    expect(page.locator("#effect .ck-col").first).to_be_in_viewport()  # though its button stands far above
    expect(page.locator("#effect [data-view=changed] .kl")).to_contain_text("KL to teacher")


def test_a_fader_changes_the_answers_and_the_mix_is_kept_as_a_run(page):
    open_tab(page, "Slots")
    expect(page.locator("#faders [data-fader]")).to_have_count(8)
    page.locator("#faders [data-solo]").first.click()
    expect(page.locator("#effect [data-view=changed] .name")).to_contain_text("slot 8 off")
    expect(page.locator("#faders [data-changed=true]")).to_have_count(7)
    page.locator("#faders input").first.fill("0.5")
    expect(page.locator("#effect [data-view=changed] .name")).to_contain_text("slot 1 × 0.5")
    page.locator("#keep").click()
    expect(page.locator("#headline")).to_contain_text("slots mixed")
    expect(page.locator("#judge")).to_be_visible()
    expect(page.locator("#faders [data-changed=true]")).to_have_count(0)
    expect(page.locator("#faders input").first).to_have_value("1")


def test_the_answer_is_explained_token_by_token_by_mouse_and_keyboard(page):
    panel = page.locator("#why")
    expect(panel).to_contain_text("without slot")  # the example comes explained
    page.locator("#query textarea").fill("unlock")
    page.locator("#ask").click()
    expect(page.locator("#columns .ck-asked")).to_contain_text("unlock")
    expect(panel.locator("[data-why-token]").first).to_contain_text("un")
    panel.locator("[data-why-token]").nth(1).click()
    expect(panel.locator(".ck-why")).to_have_attribute("data-at", "1")
    expect(panel.locator("[data-why-token='1']")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(panel.locator(".ck-why")).to_have_attribute("data-at", "0")
    expect(panel.locator("[data-why-token='0']")).to_be_focused()
    panel.locator("[data-why-slot='2']").click()
    expect(panel.locator(".ck-why-detail")).to_contain_text("slot 3: attention by layer and head")
    expect(panel.locator(".ck-heads rect").nth(1)).to_be_visible()
    expect(panel.locator("tr.chosen")).to_have_count(1)


def test_an_off_text_opens_in_compare_as_it_is_and_is_explained_by_position(page):
    open_tab(page, "OFF effect")
    page.locator("#worst").get_by_text("near_format", exact=True).locator("visible=true").first.click()
    expect(page.locator("#plain input")).to_be_checked()
    expect(page.locator("#columns")).not_to_contain_text("Q: jump")
    expect(page.locator("#why")).to_contain_text("which slot disturbs this text")
    expect(page.locator("#why [data-why-token][style*=rgb]").first).to_be_visible()


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
    expect(page.locator("#status .done")).to_contain_text("done in", timeout=LONG)
    expect(page.locator("#headline")).to_contain_text(re.compile("own demonstrations.*Gate A not run", re.S))
    expect(page.locator("#query textarea")).not_to_have_value("jump")  # it asks what belongs to this relation
    open_tab(page, "Slots")
    expect(page.locator("#demo-text")).to_contain_text("<b")
    assert page.locator("#demo-text b, #demo-text s").count() == 0


def test_a_link_restores_settings_and_the_gate_fills_the_tabs(browser, server):
    query = urlencode({"settings": QUICK, "query": "walk"})
    for page in open_page(browser, f"{server}/?{query}"):
        expect(page.locator("#query textarea")).to_have_value("walk")
        expect(page.locator("#status")).to_contain_text("restored from the link")
        expect(page.locator("#columns .ck-asked")).to_contain_text("Q: walk")
        page.locator("#gate").click()
        expect(page.locator("#status .done")).to_contain_text("done in", timeout=LONG)
        expect(page.locator("#headline")).not_to_contain_text("example")
        expect(page.locator("#columns")).to_contain_text("walk")
        open_tab(page, "Gate")
        expect(page.locator("#gate-table tr[data-name]")).to_have_count(11)
        with page.expect_download() as download:
            page.locator("#download-report").click()
        report = json.loads(download.value.path().read_text())
        shown = page.locator("#gate-table tr[data-name=on_gain] .num").first.inner_text()
        assert shown == f"{report['gate_b'][0]['value']:.2f}"
        open_tab(page, "Runs")
        expect(page.locator("#history")).to_contain_text(report["run_id"])


def test_a_cancelled_training_leaves_a_run_that_is_shown_and_can_be_used(browser, server):
    for page in open_page(browser, f"{server}/?{urlencode({'settings': LONG_TRAINING, 'method': 'ced'})}"):
        expect(page.locator("#status")).to_contain_text("restored from the link")
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("CED mixture · step", timeout=LONG)
        open_tab(page, "Training")
        expect(page.locator("#training-curves .scatterlayer .trace").first).to_be_attached()
        page.locator("#cancel").click()
        expect(page.locator("#status .cancelled")).to_contain_text(re.compile(r"cancelled at step \d+"))
        expect(page.locator("#training-note")).to_contain_text(re.compile(r"step \d+: cancelled"))
        expect(page.locator("#headline")).to_contain_text(re.compile("CED mixture.*cancelled.*not run", re.S))
        open_tab(page, "Slots")
        page.locator("#demo-text [data-token][style*=rgb]").first.click()
        expect(page.locator("#slot-card h3")).to_have_text(re.compile(r"slot \d+"))
        open_tab(page, "Runs")
        expect(page.locator("#history").get_by_text("cancelled", exact=True).last).to_be_visible()
        open_tab(page, "Compare")
        expect(page.locator("#columns [data-view=student]")).to_contain_text("CED mixture")
        expect(page.locator("#columns")).to_contain_text("jump")
        page.locator("#query textarea").fill("walk")
        page.locator("#ask").click()
        expect(page.locator("#columns .ck-asked")).to_contain_text("walk")


def test_a_cancelled_gate_is_kept_as_far_as_it_came(browser, server):
    for page in open_page(browser, f"{server}/?{urlencode({'settings': QUICK})}"):
        expect(page.locator("#status")).to_contain_text("restored from the link")
        page.locator("#gate").click()
        expect(page.locator("#status .busy")).to_contain_text(re.compile("[1-9] of"))
        page.locator("#cancel").click()
        expect(page.locator("#status .cancelled")).to_contain_text("Runs lists what was kept")
        expect(page.locator("#headline")).to_contain_text("example")
        open_tab(page, "Runs")
        expect(page.locator("#history").get_by_text("cancelled", exact=True).last).to_be_visible()


def test_a_diagnosis_is_opened_from_a_file_begun_and_stopped(page, tmp_path):
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


def test_a_hostile_upload_is_refused_by_name(page, tmp_path):
    open_tab(page, "Runs")
    fake = tmp_path / "evil.safetensors"
    fake.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR." * 20)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open files of a run, or a session").click()
    chooser.value.set_files(fake)
    expect(page.get_by_text(re.compile("'evil.safetensors'.*damaged"))).to_be_visible()
    # Nothing lies over the page: what a run would have filled can still be used.
    choose(page, "#pin-left", "present-past · CED mixture · S=8")
    expect(page.locator("#pinned")).to_contain_text("One more")
    open_tab(page, "Slots")
    page.locator("#slot input[type=number]").click()


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


@contextmanager
def two_sessions(browser, server):
    """The pages of two visitors: the first trains for long, the second has pressed Run meanwhile."""
    opened = contextmanager(open_page)
    link = f"{server}/?{urlencode({'settings': LONG_TRAINING, 'method': 'ced'})}"
    with opened(browser, link) as first, opened(browser, server) as second:
        expect(first.locator("#status")).to_contain_text("restored from the link")
        first.locator("#run").click()
        expect(first.locator("#status")).to_contain_text("CED mixture · step", timeout=LONG)
        second.locator("#run").click()
        yield first, second


def test_two_sessions_take_turns_and_see_only_their_own_runs(browser, server):
    with two_sessions(browser, server) as (first, second):
        expect(second.locator("#status")).to_contain_text(re.compile("queue: 1/1"))
        expect(second.locator("#status")).to_contain_text("waiting for another visitor's run")
        second.locator("#query textarea").fill("walk")  # a question comes in between two steps of the training
        second.locator("#ask").click()
        expect(second.locator("#columns .ck-asked")).to_contain_text("walk")
        expect(first.locator("#status")).to_contain_text("CED mixture · step")
        first.locator("#cancel").click()
        expect(second.locator("#status .done")).to_contain_text("done in", timeout=LONG)
        expect(second.locator("#headline")).to_contain_text("Select-KV")
        for page in (first, second):
            open_tab(page, "Runs")
        expect(first.locator("#history")).to_contain_text("ced-present-past")
        expect(first.locator("#history")).not_to_contain_text("select-present-past")
        expect(second.locator("#history")).to_contain_text("select-present-past")
        expect(second.locator("#history")).not_to_contain_text("ced-present-past")


def test_a_waiting_run_leaves_the_queue_when_cancelled(browser, server):
    with two_sessions(browser, server) as (first, second):
        expect(second.locator("#status")).to_contain_text("queue")
        second.locator("#cancel").click()
        expect(second.locator("#status .cancelled")).to_contain_text("left the queue")
        first.locator("#cancel").click()
        expect(first.locator("#status .cancelled")).to_contain_text("cancelled at step")
        expect(second.locator("#headline")).to_contain_text("example")


def choose(page, box: str, text: str) -> None:
    """Pick the option of a dropdown whose name contains a text."""
    page.locator(f"{box} input").click()
    page.get_by_role("option", name=re.compile(re.escape(text))).first.click()


def test_two_runs_stand_side_by_side_and_lend_each_other_slots(page):
    page.locator("#run").click()
    expect(page.locator("#status .done")).to_contain_text("done in", timeout=LONG)
    open_tab(page, "Runs")
    choose(page, "#pin-left", "present-past · CED mixture · S=8")
    expect(page.locator("#pinned")).to_contain_text("One more")
    choose(page, "#pin-right", "present-past · Select-KV")
    expect(page.locator("#pinned tr.differs").first).to_have_text("≠methodCED mixtureSelect-KV")
    expect(page.locator("#pinned")).to_contain_text("≠verdictpassednot judged")
    expect(page.locator("#pinned")).to_contain_text("phase2.eval.on_samples")
    for side in ("left", "right"):
        expect(page.locator(f"#pin-map-{side} .heatmaplayer image").first).to_be_attached()
    at_least(10, page.locator("#pin-off-left .barlayer path"))
    open_tab(page, "Slots")
    page.locator("#demo-text [data-token][style*=rgb]").first.click()
    expect(page.locator("#slot-card h3")).to_have_text(re.compile(r"slot \d+"))
    choose(page, "#swap-run", "present-past · CED mixture · S=8")
    page.locator("#swap").click()
    expect(page.locator("#effect .ck-col")).to_have_count(4)
    same, changed = (page.locator(f"#effect [data-view={view}] .kl") for view in ("student", "changed"))
    expect(changed).to_contain_text("KL to teacher")
    expect(changed).not_to_have_text(same.inner_text())
    expect(page.locator("#effect [data-view=changed] .name")).to_contain_text(re.compile(r"Select-KV, slot \d+ from"))
    page.locator("#swap").click()
    expect(page.locator("#effect .ck-col")).to_have_count(4)
    # An answer that still comes belongs to the run shown before, and must not come onto this one.
    open_tab(page, "Runs")
    page.locator("#history").get_by_text("phase3-present-past").first.click()
    expect(page.locator("#headline .what")).to_contain_text("CED mixture")
    open_tab(page, "Slots")
    expect(page.locator("#effect")).to_contain_text("Nothing changed yet")
    page.wait_for_function(
        """() => {
            const width = part => document.querySelector("#slot-heatmap " + part)?.getBoundingClientRect().width || 0;
            return width(".main-svg") > 0.95 * width(".js-plotly-plot") && width(".js-plotly-plot") > 600;
        }"""
    )
    # The model answers one question after the other: once a later one is answered, no earlier one is on its way.
    open_tab(page, "Compare")
    page.locator("#query textarea").fill("walk")
    page.locator("#ask").click()
    expect(page.locator("#columns .ck-asked")).to_contain_text("walk")
    open_tab(page, "Slots")
    expect(page.locator("#effect")).to_contain_text("Nothing changed yet")


def test_kv_heads_have_a_slider_only_where_each_has_its_own_mixture(page):
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


def test_the_gates_queries_can_be_filtered_and_open_above(page):
    inputs = page.locator("#on-table [role=gridcell][data-col='0']")
    expect(inputs.nth(2)).to_be_visible()
    asked = inputs.nth(2).inner_text().strip()
    page.locator("#on-table .search-input").fill(asked)
    expect(inputs).to_have_text([asked])
    inputs.first.click()
    expect(page.locator("#query textarea")).to_have_value(asked)
    expect(page.locator("#columns .ck-asked")).to_contain_text(asked)
    expect(page.locator("#query")).to_be_in_viewport()


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


def test_the_gates_queries_can_be_sorted(page):
    inputs = page.locator("#on-table [role=gridcell][data-col='0']")
    expect(inputs.nth(2)).to_be_visible()
    unsorted = inputs.all_inner_texts()
    for order, reverse in (("ascending", False), ("descending", True)):
        header = page.locator("#on-table [role=columnheader]").first
        header.hover()
        header.get_by_label("Open cell menu").click()
        page.get_by_role("menuitem", name=f"Sort {order}").click()
        expect(inputs).to_have_text(sorted(unsorted, reverse=reverse))


def test_the_off_effect_before_and_after_training_stand_in_one_plot(page):
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


def test_dark_mode_turns_page_and_text_and_plots_stay_readable(browser, server):
    for page in open_page(browser, f"{server}/?__theme=dark", color_scheme="dark"):
        assert brightness(shade(page.locator("body"))) < 120
        open_tab(page, "OFF effect")
        title = page.locator("#off-histograms .infolayer text", has_text="Delta, nats").first
        expect(title).to_have_text("Delta, nats")
        assert brightness(title.evaluate("e => getComputedStyle(e).fill")) > 330
        paper = page.locator("#off-histograms .main-svg").first.evaluate("e => getComputedStyle(e).backgroundColor")
        assert paper.endswith(", 0)")


def brightness(color: str) -> float:
    return sum(float(part) for part in re.findall(r"[\d.]+", color)[:3])


def test_arrow_keys_that_come_quickly_are_all_counted(page):
    panel = page.locator("#why")
    panel.locator("[data-why-slot='1']").click()
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    expect(panel.locator(".ck-why")).to_have_attribute("data-slot", "5")
    expect(panel.locator("[data-why-slot='5']")).to_be_focused()
