"""A run gives way to short calls between its events, and nobody uses the model while another does."""

import threading
import time
from collections.abc import Iterator

import pytest

from cedkv.session.turns import Turns

WAIT = 20  # seconds, for what never comes


def test_a_short_call_comes_in_between_two_events_of_a_run():
    turns, order, answered = Turns(), [], threading.Event()

    def call() -> None:
        with turns.short():
            order.append("call")
        answered.set()

    def events() -> Iterator[int]:
        for step in range(3):
            order.append(step)
            if step == 0:
                threading.Thread(target=call).start()
                while not turns._waiting:  # it asks while this step is being made, and has to wait for its end
                    time.sleep(0.001)
                assert "call" not in order
            yield step

    assert list(turns.parted(events())) == [0, 1, 2]
    assert answered.wait(WAIT) and order == [0, "call", 1, 2]


def test_short_calls_never_overlap():
    turns, inside, most = Turns(), [], []

    def call() -> None:
        with turns.short():
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.005)
            inside.pop()

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert most == [1] * 8


def test_what_fails_or_is_closed_lets_the_next_one_in():
    turns = Turns()

    def failing() -> Iterator[int]:
        yield 1
        raise ValueError

    with pytest.raises(ValueError):
        list(turns.parted(failing()))
    left = turns.parted(n for n in (1, 2))
    next(left)
    left.close()
    with pytest.raises(KeyError), turns.short():
        raise KeyError
    assert list(turns.parted(n for n in (3,))) == [3]
