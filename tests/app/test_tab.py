"""A new tab is one file and one entry in the list of tabs: it is built, shown on a run, wired, and used in the page."""

import importlib.util

import pytest

import app
from cedkv.session.limits import Limits
from components.tabs import TABS
from components.tabs.frame import Tab

pytest.importorskip("playwright")
from playwright.sync_api import expect  # noqa: E402

FILE = '''
"""Notes: the run's task in capitals, and how many runs there are."""

from dataclasses import dataclass

import gradio as gr

from components.handlers import DRAWING, run_of, told
from components.tabs.compare import CompareParts
from components.tabs.frame import Tab


@dataclass(frozen=True)
class NotesParts:
    task: gr.HTML
    slots: gr.HTML
    runs: gr.HTML
    ask: gr.Button

    def shown(self):
        return [self.task, self.slots, self.runs]


def build(opening):
    task, slots, runs = (gr.HTML(f"no {name} yet", elem_id=f"notes-{name}") for name in ("task", "slots", "runs"))
    return NotesParts(task, slots, runs, gr.Button("Ask about it", elem_id="notes-ask"))


def show(parts, run):
    return {parts.task: run.report["episode"]["task"].upper()}


def show_states(parts, desk, run):
    return {parts.slots: f"{len(desk.service.slot_map(run, run.student).weights)} slots"}


def show_runs(parts, runs):
    return {parts.runs: f"{len(runs)} runs"}


def wire(page, desk):
    @told
    def ask(run_id: str, request: gr.Request) -> str:
        return "about " + run_of(desk, request, run_id).report["episode"]["task"]

    page.part(NotesParts).ask.click(ask, page.run_id, page.part(CompareParts).query, **DRAWING)


TAB = Tab("Notes", "notes", build, show, show_states, show_runs, wire)
'''


@pytest.fixture(scope="module")
def notes(tmp_path_factory) -> Tab:
    """The tab that the file holds."""
    path = tmp_path_factory.mktemp("tab") / "notes.py"
    path.write_text(FILE)
    spec = importlib.util.spec_from_file_location("notes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TAB


def test_no_two_tabs_are_called_the_same():
    assert len({tab.id for tab in TABS}) == len({tab.name for tab in TABS}) == len(TABS)


def test_a_new_tab_stands_behind_the_others_and_is_used_like_them(notes, browser, tmp_path):
    blocks, _ = app.build(Limits(), tmp_path, [*TABS, notes])
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    page = browser.new_page()
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    try:
        page.goto(address)
        tabs = page.get_by_role("tab")
        expect(tabs).to_have_text([tab.name for tab in TABS] + ["Notes"])
        page.get_by_role("tab", name="Notes").click()
        expect(page.locator("#notes-task")).to_have_text("PRESENT-PAST")
        expect(page.locator("#notes-slots")).to_have_text("8 slots")
        expect(page.locator("#notes-runs")).to_have_text("1 runs")
        page.locator("#notes-ask").click()
        page.get_by_role("tab", name="Compare").click()
        expect(page.locator("#query textarea")).to_have_value("about present-past")
    finally:
        page.close()
        blocks.close()
