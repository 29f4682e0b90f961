"""Runs by session. Nobody can name another session's runs, and sessions that have none, seen long ago, make room."""

import hashlib
import itertools
import re
import shutil
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cedkv.session.limits import Limits
from cedkv.session.runs import Run, RunError
from cedkv.session.views import Why

# How long the runs of a page that has gone wait for it to be loaded again, seconds.
_RELOAD_WAIT = 60.0


@dataclass
class _Page:
    """What stands on a session's page: which run, why it answered so, and the number of its last question."""

    shown: str = ""
    why: Why | None = None
    asked: int = 0


class SessionStore:
    """Each session is a dictionary of runs and a folder of its own below `root`; `shared` runs belong to everyone.

    A page that is loaded again or duplicated is a new session. It finds the runs by a key that only such pages know.
    """

    def __init__(self, root: Path, limits: Limits, shared: list[Run]) -> None:
        self._root, self._limits = root, limits
        self._shared = {run.id: run for run in shared}
        self._sessions: OrderedDict[str, OrderedDict[str, Run]] = OrderedDict()
        self._homes: dict[str, str] = {}
        self._held: Counter[str] = Counter()
        self._pages: dict[str, _Page] = {}
        self._shown_last: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def resume(self, session: str, key: str) -> None:
        """Let a session have the runs of earlier ones that came with the same key; without one it has its own."""
        with self._lock:
            if key:
                self._homes[session] = key
            self._seen(session)

    @contextmanager
    def held(self, session: str) -> Iterator[None]:
        """Nothing of the session makes room for others while it makes something here."""
        with self._lock:
            home = self._home(session)
            self._held[home] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= Counter([home])  # which drops what is no longer counted

    def folder(self, session: str) -> Path:
        """Where the session's run folders appear."""
        with self._lock:
            self._touch(session)
        path = self._path(self._home(session))
        path.mkdir(parents=True, exist_ok=True)
        return path

    def add(self, session: str, run: Run) -> Run:
        with self._lock:
            runs = self._touch(session)
            runs[run.id] = run
            while len(runs) > self._limits.runs_per_session:
                self._forget(runs.popitem(last=False)[1])
        return run

    def runs(self, session: str) -> list[Run]:
        """The session's runs, newest first, then the shared ones."""
        with self._lock:
            return [*reversed(self._seen(session).values()), *self._shared.values()]

    @property
    def shared(self) -> list[Run]:
        """The runs that everyone has."""
        return list(self._shared.values())

    def get(self, session: str, run_id: str) -> Run:
        """A run of this session, or a shared one.

        Raises
        ------
        RunError
            There is none of this name: never made, or no longer kept.
        """
        for run in self.runs(session):
            if run.id == run_id:
                return run
        raise RunError(f"run {run_id!r} is not kept in this session; run it again or open its folder's files")

    def show(self, session: str, run: Run) -> None:
        """Remember which run the session's page shows. What was explained of another one is no longer on it."""
        with self._lock:
            page = self._page(session)
            if page.shown != run.id:
                page.why = None
            page.shown = self._shown_last[self._home(session)] = run.id

    def shown(self, session: str) -> str:
        """The name of the run that the session's page shows, also where it is loaded again; empty before the first."""
        return self._pages.get(session, _Page()).shown or self._shown_last.get(self._home(session), "")

    def explain(self, session: str, why: Why | None) -> None:
        """Keep the explanation that the session's page looks into."""
        with self._lock:
            self._page(session).why = why

    def explained(self, session: str) -> Why | None:
        """The explanation of what the session compared last."""
        return self._pages.get(session, _Page()).why

    def ask(self, session: str) -> int:
        """A number for the document's question that the session asks now; what it asked before is no longer wanted."""
        with self._lock:
            self._page(session).asked = number = next(self._numbers)
        return number

    def wanted(self, session: str, number: int) -> bool:
        """Whether the session is still there and has asked nothing since it was given a number."""
        return self._pages.get(session, _Page()).asked == number

    def without_paths(self, text: str) -> str:
        """A message in which files of sessions have their names alone."""
        return re.sub(rf"{re.escape(str(self._root))}/(?:[^\s'\"]*/)?", "", text)

    def drop(self, session: str) -> None:
        """Forget a session that has ended; what could be found again by a key waits a while for that."""
        with self._lock:
            home = self._homes.pop(session, None)
            self._pages.pop(session, None)
            if home is None:
                self._end(session)
                return
        waiting = threading.Timer(_RELOAD_WAIT, self._end_left, [home])
        waiting.daemon = True
        waiting.start()

    def _end_left(self, home: str) -> None:
        with self._lock:
            if home not in self._homes.values():
                self._end(home)

    def _home(self, session: str) -> str:
        return self._homes.get(session, session)

    def _path(self, home: str) -> Path:
        # A browser sends its session's name or key, so it is hashed before it becomes part of a path.
        return self._root / hashlib.sha256(home.encode()).hexdigest()[:16]

    def _page(self, session: str) -> _Page:
        self._touch(session)
        return self._pages.setdefault(session, _Page())

    def _seen(self, session: str) -> OrderedDict[str, Run]:
        """The session's runs for whoever reads. It makes no session: calls that cost nothing must push nobody out."""
        home = self._home(session)
        if home in self._sessions:
            self._sessions.move_to_end(home)
        return self._sessions.get(home, OrderedDict())

    def _touch(self, session: str) -> OrderedDict[str, Run]:
        """The session's runs for whoever keeps something; a session that is new takes the place of another."""
        home = self._home(session)
        runs = self._sessions.setdefault(home, OrderedDict())
        self._sessions.move_to_end(home)
        while len(self._sessions) > self._limits.sessions and (spare := self._spare(home)) is not None:
            self._end(spare)
        return runs

    def _spare(self, home: str) -> str | None:
        """Who makes room for one: those without runs first, of them who was not seen longest, and nobody at work."""
        others = (other for other in self._sessions if other != home and other not in self._held)
        return min(others, key=lambda other: bool(self._sessions[other]), default=None)

    def _end(self, home: str) -> None:
        self._sessions.pop(home, None)
        self._shown_last.pop(home, None)
        self._pages = {session: page for session, page in self._pages.items() if self._home(session) != home}
        if not self._limits.keep_runs:
            shutil.rmtree(self._path(home), ignore_errors=True)

    def _forget(self, run: Run) -> None:
        if not self._limits.keep_runs:
            shutil.rmtree(run.folder, ignore_errors=True)
