"""A session's run, by one method or through the gate: its events, and its folder as the run that they end with."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cedkv.config import Config, dump_config
from cedkv.episodes import episode_from_config
from cedkv.errors import ConfigError
from cedkv.events import Done, Event, Opened, Progress, StepTrace, Tick
from cedkv.files import dump_json
from cedkv.gate import iter_gate
from cedkv.gate.kinds import KINDS
from cedkv.methods import METHODS, iter_extract
from cedkv.methods.base import never
from cedkv.report import RunFolder, new_run_id
from cedkv.session.models import ModelShelf
from cedkv.session.reports import report_of_extraction
from cedkv.session.runs import Run
from cedkv.session.store import SessionStore


def phase_of(method: str) -> int:
    """The first phase of the gate that runs a method; of a method that no gate runs, the last, whose slots it has.

    Raises
    ------
    ConfigError
        There is no such method.
    """
    if method not in METHODS:
        raise ConfigError(f"method {method!r} is unknown; known are {', '.join(METHODS)}")
    return next((phase for phase, kind in KINDS.items() if method in kind.methods), max(KINDS))


class Runner:
    """Makes runs with the shared model and keeps them in the store."""

    def __init__(self, models: ModelShelf, store: SessionStore) -> None:
        self._models, self._store = models, store

    def iter_run(self, session: str, config: Config, method: str, stop: Callable[[], bool] = never) -> Iterator[Event]:
        """Extract with one method; the last event is `Done(Run)`.

        Parameters
        ----------
        stop : asked after each event. A training then ends itself, and its best state so far is kept as the run's;
            before the first step nothing is there to keep, and the events just end.
        """
        started = time.perf_counter()
        yield Progress("loading the model", 0, 1)
        lm = self._models.get(config)
        yield Progress("preparing the episode", 0, 1)
        episode = episode_from_config(lm, config)
        kind = KINDS[phase_of(method)]
        slots = kind.slots(config)
        events = iter_extract(lm, episode, method, slots, config, stop)  # what is refused leaves no folder behind
        run_id = new_run_id(episode.task, kind.phase, slots).replace(kind.label, method)
        folder = RunFolder(self._store.folder(session), run_id)
        folder.write("config.yaml", dump_config(config))
        trained = False
        for event in events:
            if isinstance(event, Done):
                extraction = event.result
                continue
            yield event
            trained = trained or isinstance(event, StepTrace)
            if stop() and not trained:
                return
        seconds = time.perf_counter() - started
        report = report_of_extraction(lm, episode, config, extraction, folder.path.name, seconds)
        folder.write("report_extract.json", dump_json(report))
        artifacts = dict(extraction.artifacts)
        if extraction.training:
            artifacts[f"training_{method}"] = extraction.training
        for name, artifact in artifacts.items():
            folder.write(f"artifacts/{kind.label}_{name}.json", dump_json(artifact))
        extraction.prefix.save(folder.path / "artifacts" / f"{method}.safetensors")
        yield Done(self._store.add(session, Run(folder.path)))

    def iter_gate_of(
        self, session: str, config: Config, method: str, stop: Callable[[], bool] = never
    ) -> Iterator[Event]:
        """The gate that runs a method; the last event is `Done(Run)`.

        What no gate runs is made first, as a run of its own, and its state then judged in place of the student's.

        stop : as of `iter_gate`. A state that is made by then is the result where its gate has not begun.
        """
        phase = phase_of(method)
        if method in KINDS[phase].methods:
            yield from self.iter_gate(session, config, phase, stop)
            return
        made, begun = None, False
        for event in self.iter_run(session, config, method, stop):
            if isinstance(event, Done):
                made = event
            else:
                yield event
        if made is None:
            return
        for event in self.iter_judge(session, made.result, stop):
            begun = begun or isinstance(event, Opened)
            yield event
        if not begun:
            yield made

    def iter_judge(self, session: str, run: Run, stop: Callable[[], bool] = never) -> Iterator[Event]:
        """The gate on the state that a run has made, with the run's settings; nothing is trained again."""
        phase = phase_of(run.made_by) if run.made_by in METHODS else min(KINDS)
        yield from self.iter_gate(session, run.config, phase, stop, run.state_file(run.student))

    def iter_gate(
        self,
        session: str,
        config: Config,
        phase: int,
        stop: Callable[[], bool] = never,
        state: Path | None = None,
    ) -> Iterator[Event]:
        """The headless gate with the session's folder as its output; the last event is `Done(Run)`.

        A run that is cut short, by closing it or by `stop`, which is asked after each event, is kept as far as it came.

        state : a file that is judged in place of the phase's student.
        """
        yield Progress("loading the model", 0, 1)
        lm = self._models.get(config)
        folder, kept = None, False
        try:
            for event in iter_gate(config, phase, lm=lm, out=self._store.folder(session), state=state, stop=stop):
                if isinstance(event, Opened):
                    folder = event.folder
                if isinstance(event, Done):
                    run, kept = self._store.add(session, Run(event.result.folder)), True
                    yield Done(run)
                else:
                    yield event
                    # A training ends itself after its step, so that its best state so far is kept.
                    if stop() and not isinstance(event, StepTrace | Tick):
                        return
        finally:
            if folder is not None and not kept:
                self._store.add(session, Run(folder))
