"""The inspector in a real browser with the embedded model: runs, gates and answers as a user makes them."""

import json
import re
from contextlib import contextmanager
from urllib.parse import urlencode

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import expect  # noqa: E402

from tests.app.conftest import open_page  # noqa: E402
from tests.app.use import at_least, choose, open_tab, reload_when_quiet, streams_of  # noqa: E402

# Every wait is for something that the page shows. The bounds are for what never comes, on two cores that others use.
expect.set_options(timeout=150_000)
LONG = 400_000  # milliseconds, for a run or a training
pytestmark = pytest.mark.timeout(1200)

# A gate that takes seconds: the same code, fewer demonstrations, queries, texts and tokens of answers.
QUICK = """episode: {demos: 4, on_train: 2}
phase2: {eval: {on_samples: 2, off_samples: 8, n_random_trials: 1, answer_tokens: 4}}
"""
# A training that is soon in its steps and long in them.
LONG_TRAINING = """episode: {on_train: 8}
phase3:
  optim: {steps: 200, matching_iterations: 10, tick_stress_samples: 9, tick_on_samples: 4}
  off_data: {candidates: 9, pool_size: 9, stress_samples: 9}
"""
DEMOS = "lift -> lifted\nwalk -> walked\nplay -> played\n<b>x</b> -> <s>$x$\ncall -> called\nask -> asked"


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
    # Faster than answers come: what counts is what the desk says last.
    page.locator("#faders [data-mute]").nth(2).click()
    page.locator("#faders [data-solo]").first.click()
    page.locator("#faders [data-mute]").nth(5).click()
    expect(page.locator("#effect [data-view=changed] .name")).to_contain_text("slot 1 × 0.5, slot 3 off, slot 6 off")
    page.locator("#keep").click()
    expect(page.locator("#headline")).to_contain_text("slots mixed")
    expect(page.locator("#judge")).to_be_visible()
    expect(page.locator("#faders [data-changed=true]")).to_have_count(0)
    expect(page.locator("#faders input").first).to_have_value("1")
    open_tab(page, "Compare")
    expect(page.locator("#columns .ck-col")).to_have_count(3)  # asked of the kept run


def test_a_new_query_is_answered_from_an_empty_cache_and_explained_by_mouse_and_keyboard(page, cache):
    """The app has converted the model there and then, offline: still the one that the example was made with."""
    assert list((cache / "models").iterdir())
    panel = page.locator("#why")
    expect(panel).to_contain_text("without slot")  # the example comes explained
    page.locator("#query textarea").fill("unlock")
    page.locator("#ask").click()
    expect(page.locator("#columns .ck-asked")).to_contain_text("unlock")
    expect(page.locator("#columns .ck-col")).to_have_count(3)
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


def test_pasted_demonstrations_run_and_show_hostile_text_literally(page):
    streams = streams_of(page)
    page.get_by_text("paste demonstrations").click()
    page.locator("#paste textarea").fill(DEMOS)
    page.get_by_role("button", name="Use these").click()
    expect(page.locator("#demos").get_by_text("lifted", exact=True).last).to_be_visible()
    page.locator("#task input").click()
    page.get_by_role("option", name="present-past", exact=True).click()
    page.get_by_role("button", name="Use these").click()
    expect(page.locator("#task input")).to_have_value("(my own demonstrations)")
    choose(page, "#method", "Select-KV")
    page.locator("#run").click()
    expect(page.locator("#status .done")).to_contain_text("done in", timeout=LONG)
    expect(page.locator("#headline")).to_contain_text(re.compile("own demonstrations.*Gate A not run", re.S))
    expect(page.locator("#query textarea")).not_to_have_value("jump")  # it asks what belongs to this relation
    open_tab(page, "Slots")
    expect(page.locator("#demo-text")).to_contain_text("<b")
    assert page.locator("#demo-text b, #demo-text s").count() == 0
    reload_when_quiet(page, streams)
    expect(page.locator("#headline")).to_contain_text("own demonstrations")
    expect(page.locator("#task input")).to_have_value("(my own demonstrations)")
    expect(page.locator("#demos").get_by_text("lifted", exact=True).last).to_be_visible()
    expect(page.locator("#demos")).to_contain_text("<b")


def test_a_link_restores_settings_and_a_gate_is_kept_as_far_as_it_came_or_fills_the_tabs(browser, server):
    query = urlencode({"settings": QUICK, "method": "select", "query": "walk"})
    for page in open_page(browser, f"{server}/?{query}"):
        expect(page.locator("#query textarea")).to_have_value("walk")
        expect(page.locator("#status")).to_contain_text("restored from the link")
        expect(page.locator("#columns .ck-asked")).to_contain_text("Q: walk")
        page.locator("#gate").click()
        expect(page.locator("#status .busy")).to_contain_text(re.compile("[1-9] of"))
        page.locator("#cancel").click()
        expect(page.locator("#status .cancelled")).to_contain_text("Runs lists what was kept")
        expect(page.locator("#headline")).to_contain_text("example")
        open_tab(page, "Runs")
        expect(page.locator("#history").get_by_text("cancelled", exact=True).last).to_be_visible()
        open_tab(page, "Compare")
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


def test_two_visitors_take_turns_and_see_only_their_own_runs_and_a_cancelled_training_can_be_used(browser, server):
    """The first trains for long. The second waits, gives up, waits again, and runs when the first has cancelled."""
    opened = contextmanager(open_page)
    link = f"{server}/?{urlencode({'settings': LONG_TRAINING, 'method': 'ced'})}"
    with opened(browser, link) as first, opened(browser, server) as second:
        expect(first.locator("#status")).to_contain_text("restored from the link")
        first.locator("#run").click()
        expect(first.locator("#status")).to_contain_text("CED mixture · step", timeout=LONG)
        open_tab(first, "Training")
        expect(first.locator("#training-curves .scatterlayer .trace").first).to_be_attached()

        choose(second, "#method", "Select-KV")
        second.locator("#run").click()
        expect(second.locator("#status")).to_contain_text("queue")
        second.locator("#cancel").click()
        expect(second.locator("#status .cancelled")).to_contain_text("left the queue")
        expect(second.locator("#headline")).to_contain_text("example")

        second.locator("#run").click()
        expect(second.locator("#status")).to_contain_text(re.compile("queue: 1/1"))
        expect(second.locator("#status")).to_contain_text("waiting for another visitor's run")
        second.locator("#query textarea").fill("walk")  # a question comes in between two steps of the training
        second.locator("#ask").click()
        expect(second.locator("#columns .ck-asked")).to_contain_text("walk")
        expect(first.locator("#status")).to_contain_text("CED mixture · step")

        first.locator("#cancel").click()
        a_cancelled_training_is_shown_and_can_be_used(first)
        expect(second.locator("#status .done")).to_contain_text("done in", timeout=LONG)
        expect(second.locator("#headline")).to_contain_text("Select-KV")
        for page in (first, second):
            open_tab(page, "Runs")
        expect(first.locator("#history")).to_contain_text("ced-present-past")
        expect(first.locator("#history")).not_to_contain_text("select-present-past")
        expect(second.locator("#history")).to_contain_text("select-present-past")
        expect(second.locator("#history")).not_to_contain_text("ced-present-past")


def a_cancelled_training_is_shown_and_can_be_used(page) -> None:
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


def test_two_runs_stand_side_by_side_and_lend_each_other_slots(page):
    choose(page, "#method", "Select-KV")
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
