"""A session's run can be stopped, is when its time is used up, and is waited for when its session ends."""

import threading
import time
from collections.abc import Iterator

import pytest

from cedkv.events import Done, Event, Progress, StepTrace, Warned
from cedkv.session.going import Going, Stop
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


def in_time(events: Iterator[Event], stop: Stop) -> Iterator[Event]:
    return Going(Limits(run_seconds=0.05)).in_time(events, stop)


def slow(ends: Stop | None = None) -> Iterator[Event]:
    """A run of two seconds, told step by step, which ends itself when it is asked to."""
    for step in range(100):
        time.sleep(0.02)
        yield Progress("step", step, 100)
        if ends and ends():
            return


def test_a_run_that_takes_too_long_is_asked_to_stop_and_closed_if_it_does_not():
    closed, heard, stop = [], [], Stop()

    def events() -> Iterator[Event]:
        try:
            yield from slow()
        finally:
            closed.append(True)

    with pytest.raises(LimitError, match="more than the 0.05 s"):
        heard.extend(in_time(events(), stop))
    assert closed and stop()


def test_what_a_run_keeps_when_it_is_asked_to_stop_is_its_result():
    stop = Stop()

    def events() -> Iterator[Event]:
        yield from slow(stop)
        yield Done("the best state so far")

    *_, warned, done = in_time(events(), stop)
    assert isinstance(warned, Warned) and "0.05 s that this deployment allows are used up" in warned.message
    assert done == Done("the best state so far")


def test_a_run_that_ends_with_nothing_says_that_its_time_was_used_up():
    stop = Stop()
    with pytest.raises(LimitError, match="more than the 0.05 s"):
        list(in_time(slow(stop), stop))


def test_a_finished_run_is_none_that_took_too_long():
    def events() -> Iterator[Event]:
        time.sleep(0.06)
        yield Done("a report")

    stop = Stop()
    assert list(in_time(events(), stop)) == [Done("a report")] and not stop()


def test_who_cancels_is_told_of_no_limit():
    stop = Stop()
    stop.set()
    assert len(list(Going(Limits()).in_time(slow(stop), stop))) == 1


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
        events = going.in_time((event for event in (step, Progress("judging ced", 0, 1))), Stop())
        next(events)
        assert "about 30 s of its training are left" in going.others("me")
        next(events)
        assert "about" not in going.others("me")
