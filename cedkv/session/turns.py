"""Whose turn it is on the one model: a run gives way to short calls between its events, and they to each other."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

Event = TypeVar("Event")


class Turns:
    """A lock that a run lets go of after each event, for as long as short calls wait."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._taken, self._waiting = False, 0

    @contextmanager
    def short(self) -> Iterator[None]:
        """The model for a call of seconds: it comes before whatever a run would do next."""
        with self._free:
            self._waiting += 1
            self._free.wait_for(lambda: not self._taken)
            self._taken, self._waiting = True, self._waiting - 1
        try:
            yield
        finally:
            self._release()

    def parted(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events of a run, each made while nobody else uses the model."""
        with closing(events):  # type: ignore[type-var]  # generators all, as whoever closes one cancels its work
            while (event := self._next(events)) is not None:
                yield event

    def _next(self, events: Iterator[Event]) -> Event | None:
        with self._free:
            self._free.wait_for(lambda: not self._taken and not self._waiting)
            self._taken = True
        try:
            return next(events, None)
        finally:
            self._release()

    def _release(self) -> None:
        with self._free:
            self._taken = False
            self._free.notify_all()
