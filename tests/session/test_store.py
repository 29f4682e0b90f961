"""Runs of a page: those of another one cannot be named, and those of the same one are found again after a reload."""

import pytest

from cedkv.session import store as module
from cedkv.session.going import Going
from cedkv.session.limits import Limits
from cedkv.session.runs import Run, RunError
from cedkv.session.store import SessionStore


@pytest.fixture
def store(tmp_path) -> SessionStore:
    return SessionStore(tmp_path / "app", Limits(keep_runs=False), [])


def made(store: SessionStore, session: str, name: str) -> Run:
    run = Run(store.folder(session) / name)
    run.folder.mkdir()
    store.show(session, store.add(session, run))
    return run


def test_a_page_that_is_loaded_again_finds_its_runs_by_its_key(store):
    store.resume("first", "key")
    run = made(store, "first", "mine")
    store.drop("first")
    store.resume("second", "key")
    assert store.get("second", "mine") is run and store.shown("second") == "mine" and run.folder.is_dir()
    store.resume("stranger", "another key")
    with pytest.raises(RunError, match="'mine' is not kept in this session"):
        store.get("stranger", "mine")


def test_what_was_explained_of_another_run_is_gone_once_that_is_shown(store):
    run = made(store, "me", "mine")
    store.explain("me", "an explanation")
    store.show("me", run)
    assert store.explained("me") == "an explanation"
    made(store, "me", "next")
    assert store.explained("me") is None


def test_a_page_and_its_duplicate_share_runs_and_each_shows_its_own(store):
    for page in ("first", "duplicate"):
        store.resume(page, "key")
    made(store, "first", "one")
    store.explain("first", "an explanation")
    number = store.ask("first")
    made(store, "duplicate", "two")
    store.ask("duplicate")
    assert store.shown("first") == "one" and store.shown("duplicate") == "two" and store.get("first", "two")
    assert store.explained("first") == "an explanation" and store.explained("duplicate") is None
    assert store.wanted("first", number)
    store.drop("first")
    store.resume("again", "key")
    assert store.shown("again") == "two" and store.explained("again") is None and not store.wanted("first", number)


def test_a_page_that_does_not_come_back_leaves_nothing(store, monkeypatch):
    monkeypatch.setattr(module, "_RELOAD_WAIT", 0.01)
    store.resume("first", "key")
    run = made(store, "first", "mine")
    for timer in _started(monkeypatch, store, "first"):
        timer.join(5)
    assert not run.folder.exists() and store.runs("first") == []


def _started(monkeypatch, store: SessionStore, session: str) -> list:
    """The timers that dropping a session starts."""
    timers = []
    timer = module.threading.Timer
    monkeypatch.setattr(module.threading, "Timer", lambda *given: timers.append(timer(*given)) or timers[-1])
    store.drop(session)
    return timers


def few(tmp_path) -> SessionStore:
    """A store with room for two sessions."""
    return SessionStore(tmp_path / "app", Limits(sessions=2, keep_runs=False), [])


def test_who_only_reads_pushes_nobody_out(tmp_path):
    store = few(tmp_path)
    run = made(store, "me", "mine")
    for visitor in map(str, range(5)):
        store.resume(visitor, f"key {visitor}")
        assert store.runs(visitor) == []
        with pytest.raises(RunError):
            store.get(visitor, "mine")
    assert store.get("me", "mine") is run and run.folder.is_dir()


def test_sessions_without_runs_make_room_first_and_then_who_was_not_seen_longest(tmp_path):
    store = few(tmp_path)
    first = made(store, "first", "one")
    folders = [store.folder(visitor) for visitor in "abc"]
    assert first.folder.is_dir() and [folder.is_dir() for folder in folders] == [False, False, True]
    second = made(store, "second", "two")
    store.runs("first")
    made(store, "third", "three")
    assert first.folder.is_dir() and not second.folder.exists()


def test_who_has_a_run_going_on_makes_room_for_nobody_until_it_is_over(tmp_path):
    store = few(tmp_path)
    folder = store.folder("me")
    with Going(Limits(), store.held).of("me"):
        for visitor in "abc":
            made(store, visitor, "run")
        assert folder.is_dir()
    made(store, "late", "run")
    assert not folder.exists()


def test_what_a_session_asked_before_is_no_longer_wanted_and_what_others_ask_changes_nothing(store):
    first = store.ask("me")
    assert store.wanted("me", first) and not store.wanted("you", first)
    store.ask("you")
    assert store.wanted("me", first)
    second = store.ask("me")
    assert store.wanted("me", second) and not store.wanted("me", first)


def test_nothing_is_wanted_of_a_session_that_has_made_room(store):
    number = store.ask("me")
    for visitor in range(Limits().sessions):
        store.ask(f"visitor {visitor}")
    assert not store.wanted("me", number)


def test_a_session_without_a_key_ends_at_once(store):
    store.resume("script", "")
    run = made(store, "script", "mine")
    store.drop("script")
    assert not run.folder.exists()


def test_messages_name_files_of_sessions_without_their_folders(store, tmp_path):
    folder = store.folder("first")
    said = store.without_paths(
        f"state '{folder}/a-run/artifacts/ced.safetensors' was made in another episode, see {tmp_path}"
    )
    assert said == f"state 'ced.safetensors' was made in another episode, see {tmp_path}"
