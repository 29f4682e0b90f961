"""Runs by session. Nobody can name another session's runs, and the least recently seen sessions make room."""

import hashlib
import shutil
import threading
from collections import OrderedDict
from pathlib import Path

from cedkv.session.limits import Limits
from cedkv.session.runs import Run, RunError
from cedkv.session.views import Why


class SessionStore:
    """Each session is a dictionary of runs and a folder of its own below `root`; `shared` runs belong to everyone."""

    def __init__(self, root: Path, limits: Limits, shared: list[Run]) -> None:
        self._root, self._limits = root, limits
        self._shared = {run.id: run for run in shared}
        self._sessions: OrderedDict[str, OrderedDict[str, Run]] = OrderedDict()
        self._shown: dict[str, str] = {}
        self._why: dict[str, Why | None] = {}
        self._lock = threading.Lock()

    def folder(self, session: str) -> Path:
        """Where the session's run folders appear."""
        with self._lock:
            self._touch(session)
        path = self._path(session)
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
            return [*reversed(self._touch(session).values()), *self._shared.values()]

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
        """Remember which run the session's page shows."""
        with self._lock:
            self._touch(session)
            self._shown[session] = run.id

    def shown(self, session: str) -> str:
        """The name of the run that the session's page shows; empty before the first."""
        return self._shown.get(session, "")

    def explain(self, session: str, why: Why | None) -> None:
        """Keep the explanation that the session's page looks into."""
        with self._lock:
            self._touch(session)
            self._why[session] = why

    def explained(self, session: str) -> Why | None:
        """The explanation of what the session compared last."""
        return self._why.get(session)

    def drop(self, session: str) -> None:
        """Forget a session that has ended."""
        with self._lock:
            self._end(session)

    def _path(self, session: str) -> Path:
        # A browser sends its session's name, so it is hashed before it becomes part of a path.
        return self._root / hashlib.sha256(session.encode()).hexdigest()[:16]

    def _touch(self, session: str) -> OrderedDict[str, Run]:
        runs = self._sessions.setdefault(session, OrderedDict())
        self._sessions.move_to_end(session)
        while len(self._sessions) > self._limits.sessions:
            self._end(next(iter(self._sessions)))
        return runs

    def _end(self, session: str) -> None:
        self._sessions.pop(session, None)
        self._shown.pop(session, None)
        self._why.pop(session, None)
        if not self._limits.keep_runs:
            shutil.rmtree(self._path(session), ignore_errors=True)

    def _forget(self, run: Run) -> None:
        if not self._limits.keep_runs:
            shutil.rmtree(run.folder, ignore_errors=True)
