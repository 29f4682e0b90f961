"""How the page follows a run, and which it shows: what was kept is listed, however the run has ended."""

from collections.abc import Iterator

import gradio as gr
import pytest

from cedkv.config import PRESETS, load_config
from cedkv.events import Event, Progress
from cedkv.session.limits import LimitError, Limits
from cedkv.session.store import SessionStore
from components.desk import Desk
from components.example import example_runs
from components.handlers import moved_on
from components.page import build_page
from components.tabs import TABS
from components.tabs.frame import Page
from components.tabs.runs import RunsParts
from components.wiring.running import following


@pytest.fixture(scope="module")
def page() -> Page:
    with gr.Blocks() as blocks:
        return build_page(blocks, Limits(), load_config(PRESETS / "smoke.yaml"), None, TABS)


def test_a_run_that_was_cut_is_listed_though_it_ends_with_an_error(page, tmp_path):
    desk = Desk(Limits(), SessionStore(tmp_path / "runs", Limits(), []))
    (cut,) = example_runs(tmp_path)

    def start(session: str, given: tuple, stop: object) -> Iterator[Event]:
        yield Progress("judging", 0, 2)
        desk.store.add(session, cut)
        raise LimitError("the run took too long")

    *_, last = following(page, desk, start)(gr.Request(session_hash="me"))
    assert "the run took too long" in last[page.setup.status]
    assert [row[0] for row in last[page.part(RunsParts).history]] == [cut.id]


def test_an_answer_has_no_place_once_the_page_shows_another_run(tmp_path):
    desk, me = Desk(Limits(), SessionStore(tmp_path / "runs", Limits(sessions=1), [])), gr.Request(session_hash="me")
    (run,) = example_runs(tmp_path)
    desk.store.show("me", run)
    assert moved_on(desk, me, "another") and not moved_on(desk, me, run.id)
    desk.store.folder("you")  # for which I make room: Compare still answers me
    assert not moved_on(desk, me, run.id)
