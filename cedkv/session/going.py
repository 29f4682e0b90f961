"""The runs that are going on, one a session: marked, and stopped when asked or when their time is used up."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext

from cedkv.events import Done, Event, StepTrace, Warned
from cedkv.session.limits import LimitError, Limits

# How long a session that ends waits for its run to do so before its files are removed, seconds.
_END_WAIT = 3.0
# How long a run whose time is used up may take to end itself, as a share of that time.
_LAST_SHARE = 0.25


class Stop(threading.Event):
    """Set to ask a run to stop; called, as the engine does, it says whether that is so."""

    def __call__(self) -> bool:
        return self.is_set()


class Going:
    """Which sessions have a run going on. Each has an event that asks it to stop, and one that says it has.

    held : keeps what a session has while its run goes on, which may touch none of it for minutes.
    """

    def __init__(self, limits: Limits, held: Callable[[str], AbstractContextManager] = nullcontext) -> None:
        self._limits, self._held = limits, held
        self._runs: dict[str, tuple[Stop, threading.Event]] = {}
        self._seconds_left: float | None = None

    def others(self, session: str) -> str:
        """What a session that asks for a run now waits for, in words; empty where it waits for nobody."""
        if not self._runs.keys() - {session}:
            return ""
        about = f", about {self._seconds_left:.0f} s of its training are left" if self._seconds_left else ""
        return f"waiting for another visitor's run{about}; Compare and the tabs answer meanwhile"

    def __contains__(self, session: str) -> bool:
        return session in self._runs

    @contextmanager
    def of(self, session: str) -> Iterator[Stop]:
        """Marks a session's run as going on; what comes with it is set by `cancel`."""
        stop, over = Stop(), threading.Event()
        self._runs[session] = (stop, over)
        try:
            with self._held(session):
                yield stop
        finally:
            over.set()
            if self._runs.get(session, (None,))[0] is stop:
                del self._runs[session]

    def in_time(self, events: Iterator[Event], stop: Stop) -> Iterator[Event]:
        """The events of a run. When its time here is used up it is asked to stop, so that it keeps what it has.

        Raises
        ------
        LimitError
            Nothing came of it in time, or it did not stop soon.
        """
        started, most, asked = time.perf_counter(), self._limits.run_seconds, 0.0
        too_long = LimitError(
            f"the run took more than the {most} s that this deployment allows; ask for fewer samples or steps"
        )
        with closing(events):  # type: ignore[type-var]  # generators all, as whoever closes one cancels its work
            for event in events:
                # The runs take turns, so this is the one that others wait for.
                self._seconds_left = _left_after(event) if isinstance(event, StepTrace) else None
                yield event
                if isinstance(event, Done):  # it is over, however long that took
                    return
                spent = time.perf_counter() - started
                if asked and spent - asked > most * _LAST_SHARE:
                    raise too_long
                if not asked and spent > most:
                    asked = spent
                    stop.set()
                    yield Warned(f"the {most} s that this deployment allows are used up; the run ends with what it has")
        if asked:
            raise too_long

    def cancel(self, session: str) -> None:
        """Ask a session's run to stop, which it does after the step in hand. Without one nothing happens."""
        if session in self._runs:
            self._runs[session][0].set()

    def end(self, session: str) -> None:
        """Stop the run of a session that has ended, and wait a little for it to be over."""
        if session in self._runs:
            stop, over = self._runs[session]
            stop.set()
            over.wait(_END_WAIT)


def _left_after(step: StepTrace) -> float:
    """Seconds that the training still takes, if all its steps take what this one took."""
    return step.seconds * (step.steps - step.step - 1)
