"""Draining work: its result, or a clear word that there is none."""

from pathlib import Path

import pytest

from cedkv.errors import Cancelled
from cedkv.events import Done, Opened, Progress, Warned, drain


def test_the_result_is_that_of_the_last_done_and_the_work_runs_to_its_end():
    ended = []

    def work():
        yield Done(1)
        yield Progress("more", 0, 1)
        yield Done(2)
        ended.append(True)

    assert drain(work()) == 2
    assert ended == [True]


def test_a_result_of_none_is_a_result():
    assert drain(iter([Done(None)])) is None


def test_a_listener_hears_everything_but_the_result_in_order():
    told = []
    drain(iter([Progress("a", 0, 1), Warned("b"), Done(3)]), told.append)
    assert told == [Progress("a", 0, 1), Warned("b")]


def test_work_that_ends_without_a_result_was_cancelled_and_says_what_is_kept():
    with pytest.raises(Cancelled, match="cancelled before it had a result; nothing of it is kept"):
        drain(iter([Progress("a", 0, 1)]))
    with pytest.raises(Cancelled, match="what was measured so far is kept in runs/one"):
        drain(iter([Opened(Path("runs/one"))]))
