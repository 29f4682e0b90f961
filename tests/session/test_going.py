"""A session's run can be stopped, is closed when its time is used up, and is waited for when its session ends."""

import threading
import time
from collections.abc import Iterator

import pytest

from cedkv.events import Progress, StepTrace
from cedkv.session.going import Going
from cedkv.session.limits import LimitError, Limits


def test_a_run_is_known_while_it_goes_on_and_hears_that_it_is_cancelled():
    going = Going(Limits())
    with going.of("me") as mine, going.of("you") as yours:
        assert "me" in going
        going.cancel("me")
        assert mine() and not yours()
    assert "me" not in going
    going.cancel("me")  # nothing is going on, so nothing happens


def test_a_later_run_of_the_session_is_the_one_that_is_cancelled():
    going = Going(Limits())
    with going.of("me") as first:
        with going.of("me") as second:
            going.cancel("me")
            assert second() and not first()
        assert "me" not in going


def test_a_run_that_takes_too_long_is_closed():
    closed = []

    def events() -> Iterator[Progress]:
        try:
            for step in range(100):
                time.sleep(0.02)
                yield Progress("step", step, 100)
        finally:
            closed.append(True)

    with pytest.raises(LimitError, match="more than the 0.05 s"):
        list(Going(Limits(run_seconds=0.05)).in_time(events()))
    assert closed


def test_a_session_that_ends_waits_for_its_run():
    going, started, ended = Going(Limits()), threading.Event(), []

    def run() -> None:
        with going.of("me") as stop:
            started.set()
            while not stop():
                time.sleep(0.01)
            ended.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(5)
    going.end("me")
    assert ended == [True]
    thread.join()


def test_whoever_waits_hears_for_whom_and_how_long():
    going = Going(Limits())
    assert going.others("me") == ""
    step = StepTrace("ced", 4, 20, 0.1, 0.1, 0.1, 1.0, 8, seconds=2.0)
    with going.of("you"):
        assert going.others("you") == "" and "another visitor's run; " in going.others("me")
        events = going.in_time(event for event in (step, Progress("judging ced", 0, 1)))
        next(events)
        assert "about 30 s of its training are left" in going.others("me")
        next(events)
        assert "about" not in going.others("me")
