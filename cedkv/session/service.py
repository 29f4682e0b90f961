"""Everything a face asks of the engine, per session: runs, comparisons, slots. Plain data out, no widgets."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from cedkv.config import Config, dump_config
from cedkv.episodes import (
    DEFAULT_TASK,
    draw_demos,
    episode_from_config,
    load_task,
    make_query,
    parse_demos,
    task_names,
)
from cedkv.errors import CedKVError, ConfigError
from cedkv.events import Done, Event, Opened, Progress, StepTrace, Tick
from cedkv.files import dump_json
from cedkv.gate import iter_gate
from cedkv.gate.phases import PHASES
from cedkv.gate.slots import describe_collapse, describe_roles, describe_slots
from cedkv.lm import LanguageModel, read_demo_kv
from cedkv.methods import METHODS, Extraction, iter_extract
from cedkv.methods.base import never
from cedkv.provenance import library_versions
from cedkv.report import RunFolder, new_run_id
from cedkv.session.compare import iter_compare
from cedkv.session.demonstrations import keep_demos
from cedkv.session.limits import LimitError, Limits
from cedkv.session.models import ModelShelf
from cedkv.session.reproduce import command_line, python_code
from cedkv.session.runs import Run
from cedkv.session.slots import SlotChange, SlotMap, changed, similarity, slot_map
from cedkv.session.store import SessionStore
from cedkv.session.upload import open_files
from cedkv.session.views import Comparison
from cedkv.state import KVPrefix

# How long a session that ends waits for its run to do so before its files are removed, seconds.
_END_WAIT = 3.0


class Service:
    """The engine behind one server. Calls that use the model must not overlap; the face's queue sees to that."""

    def __init__(self, limits: Limits, store: SessionStore) -> None:
        self.limits, self.store = limits, store
        self.models = ModelShelf()
        self._going: dict[str, tuple[threading.Event, threading.Event]] = {}

    @property
    def methods(self) -> list[str]:
        return list(METHODS)

    @property
    def tasks(self) -> list[str]:
        return task_names()

    def task_of(self, config: Config) -> str:
        """The task that a config without a demonstrations file draws from."""
        return config.episode.task or DEFAULT_TASK

    def task_demos(self, config: Config) -> list[tuple[str, str]]:
        """The demonstrations that `episode_from_config` draws from the config's task."""
        drawn, _ = draw_demos(load_task(self.task_of(config)).pairs, config.episode.demos, config.phase2.seed)
        return drawn

    def parse_demos(self, text: str) -> list[tuple[str, str]]:
        """Pasted demonstrations, in whichever format."""
        demos = parse_demos(text)
        self.limits.check_demos(len(demos), len(text))
        return [(demo.input, demo.output) for demo in demos]

    def phase_of(self, method: str) -> int:
        """The first phase of the gate that runs a method.

        Raises
        ------
        ConfigError
            No phase runs it.
        """
        for number, phase in PHASES.items():
            if method in phase.methods:
                return number
        raise ConfigError(f"method {method!r} is unknown; known are {', '.join(METHODS)}")

    def slot_map(self, run: Run, method: str, layer: int | None = None, head: int | None = None) -> SlotMap:
        return slot_map(run.prefix(method), layer, head)

    def mixture_scope(self, run: Run, method: str) -> tuple[int, int]:
        """How many layers and KV heads have a mixture of their own; 1 where it is shared or there is none."""
        mixture = run.prefix(method).mixture
        return tuple(mixture.weights.shape[:2]) if mixture else (1, 1)

    def similarity(self, run: Run, method: str) -> dict[str, list[list[float]]]:
        return similarity(run.prefix(method))

    def open_files(self, session: str, paths: Sequence[Path], names: Sequence[str]) -> Run:
        """Uploaded files of a run from elsewhere, as a run of this session."""
        folder = self.store.folder(session)
        return self.store.add(session, open_files(paths, names, folder, self.models.get, self.limits))

    def reproduce(self, run: Run) -> tuple[str, str]:
        """The run's gate as a command line and as Python."""
        phase = run.report.get("phase")
        if phase not in PHASES:
            phase = next((n for n in PHASES if run.student in PHASES[n].methods), min(PHASES))
        return command_line(run, phase), python_code(run, phase)

    def slot_change(
        self, slot: int, factor: float, from_run: str = "", from_slot: int = 1, method: str = ""
    ) -> SlotChange:
        """A change to a slot, both slots counted from 1 as a face shows them."""
        return SlotChange(slot - 1, factor, from_run, from_slot - 1, method)

    @contextmanager
    def going(self, session: str) -> Iterator[Callable[[], bool]]:
        """Marks a session's run as going on; what comes with it says whether `cancel` was called."""
        stop, over = threading.Event(), threading.Event()
        self._going[session] = (stop, over)
        try:
            yield stop.is_set
        finally:
            over.set()
            if self._going.get(session, (None,))[0] is stop:
                del self._going[session]

    def in_time(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events of a run, which is closed when its time here is used up."""
        started = time.perf_counter()
        with closing(events):
            for event in events:
                yield event
                if time.perf_counter() - started > self.limits.run_seconds:
                    raise LimitError(
                        f"the run took more than the {self.limits.run_seconds} s that this deployment allows; "
                        "ask for fewer samples or steps"
                    )

    def is_going(self, session: str) -> bool:
        return session in self._going

    def cancel(self, session: str) -> None:
        """Ask a session's run to stop, which it does after the step in hand. Without one nothing happens."""
        if session in self._going:
            self._going[session][0].set()

    def end(self, session: str) -> None:
        """Stop and forget what a session that has ended was doing."""
        if session in self._going:
            stop, over = self._going[session]
            stop.set()
            over.wait(_END_WAIT)
        self.store.drop(session)

    def prepare(self, session: str, config: Config, demos: Sequence[tuple[str, str]], own: bool) -> Config:
        """The config of a run, checked against the limits; edited or `own` demonstrations become a file of the session.

        Raises
        ------
        CedKVError
            A limit is passed or the demonstrations cannot be used.
        """
        self.limits.check_config(config)
        self.limits.check_demos(len(demos), sum(len(x) + len(y) for x, y in demos))
        # The table of a page that is just opening, or that a user has emptied, stands for what the task draws.
        if not own and (not demos or list(demos) == self.task_demos(config)):
            return config
        path = keep_demos(self.store.folder(session), demos)
        episode = config.episode.model_dump(exclude_unset=True, exclude={"task"} if own else set())
        kept = {name: value for name, value in config.model_dump(exclude_unset=True).items() if name != "episode"}
        return Config.model_validate({**kept, "episode": {**episode, "demos_file": str(path)}})

    def iter_run(self, session: str, config: Config, method: str, stop: Callable[[], bool] = never) -> Iterator[Event]:
        """Extract with one method; the last event is `Done(Run)`.

        Parameters
        ----------
        stop : asked after each event. A training then ends itself, and its best state so far is kept as the run's;
            before the first step nothing is there to keep, and the events just end.
        """
        started = time.perf_counter()
        yield Progress("loading the model", 0, 1)
        lm = self.models.get(config)
        yield Progress("preparing the episode", 0, 1)
        episode = episode_from_config(lm, config)
        phase = PHASES[self.phase_of(method)]
        slots = phase.slots(config)
        run_id = new_run_id(episode.task, phase.number, slots).replace(f"phase{phase.number}", method)
        folder = RunFolder(self.store.folder(session), run_id)
        folder.write("config.yaml", dump_config(config))
        trained = False
        for event in iter_extract(lm, episode, method, slots, config, stop):
            if isinstance(event, Done):
                extraction = event.result
                continue
            yield event
            trained = trained or isinstance(event, StepTrace)
            if stop() and not trained:
                return
        report = _extract_report(lm, episode, config, extraction, folder.path.name, time.perf_counter() - started)
        folder.write("report_extract.json", dump_json(report))
        artifacts = dict(extraction.artifacts)
        if extraction.training:
            artifacts[f"training_{method}"] = extraction.training
        for name, artifact in artifacts.items():
            folder.write(f"artifacts/phase{phase.number}_{name}.json", dump_json(artifact))
        extraction.prefix.save(folder.path / "artifacts" / f"{method}.safetensors")
        yield Done(self.store.add(session, Run(folder.path)))

    def iter_gate(self, session: str, config: Config, phase: int, stop: Callable[[], bool] = never) -> Iterator[Event]:
        """The headless gate with the session's folder as its output; the last event is `Done(Run)`.

        A run that is cut short, by closing it or by `stop`, which is asked after each event, is kept as far as it came.
        """
        yield Progress("loading the model", 0, 1)
        lm = self.models.get(config)
        folder, kept = None, False
        try:
            for event in iter_gate(config, phase, lm=lm, out=self.store.folder(session), stop=stop):
                if isinstance(event, Opened):
                    folder = event.folder
                if isinstance(event, Done):
                    run, kept = self.store.add(session, Run(folder)), True
                    yield Done(run)
                else:
                    yield event
                    # A training ends itself after its step, so that its best state so far is kept.
                    if stop() and not isinstance(event, StepTrace | Tick):
                        return
        finally:
            if folder is not None and not kept:
                self.store.add(session, Run(folder))

    def iter_compare(
        self,
        session: str,
        run_id: str,
        query: str,
        views: Sequence[str] = (),
        plain: bool = False,
        change: SlotChange | None = None,
    ) -> Iterator[Comparison]:
        """Base, teacher, the run's student and the other `views` on one query.

        Parameters
        ----------
        plain : the text stands as it is; else it becomes a query of the run's template.
        change : adds the column `changed`: a state of the run with one slot changed, and that state beside it.
        """
        self.limits.check_query(query)
        if not query.strip():
            raise CedKVError("the query is empty; write something to compare")
        run = self.store.get(session, run_id)
        lm = self.model_of(run)
        template = run.template
        prefixes: dict[str, KVPrefix | None] = {"base": None, "teacher": self.teacher(run, lm)}
        touched = (change.method or run.student,) if change else ()
        prefixes |= {name: run.prefix(name) for name in dict.fromkeys([run.student, *views, *touched])}
        if change is not None:
            other = self.store.get(session, change.from_run) if change.from_run else None
            prefixes["changed"] = changed(run.prefix(*touched), change, other.prefix(other.student) if other else None)
        text = query if plain else make_query(lm, template, query).text
        yield from iter_compare(lm, text, prefixes, stop=None if plain else template.stop)

    def model_of(self, run: Run) -> LanguageModel:
        """The model a run was made with.

        Raises
        ------
        CedKVError
            The model at hand under that name is another one.
        """
        lm = self.models.get(run.config)
        made_with = run.report["model"]["fingerprint"]
        if lm.fingerprint != made_with:
            raise CedKVError(f"run {run.id!r} was made with a model of fingerprint {made_with}, not {lm.fingerprint}")
        return lm

    def teacher(self, run: Run, lm: LanguageModel) -> KVPrefix:
        """The demonstrations' whole cache, from the tokens that the run's states carry."""
        if run.teacher is None:
            mixtures = [mixture for method in run.methods if (mixture := run.prefix(method).mixture)]
            if not mixtures:
                raise CedKVError(f"run {run.id!r} has no state that names its demonstrations' tokens")
            run.teacher = read_demo_kv(lm, mixtures[0].tokens).as_prefix()
        return run.teacher


def _extract_report(lm, episode, config: Config, extraction: Extraction, run_id: str, seconds: float) -> dict:
    """A report of the gate's shape with what an extraction alone can say."""
    return {
        "run_id": run_id,
        "phase": 0,
        "method": extraction.method,
        "complete": extraction.complete,
        "stopped": extraction.training.get("stopped", ""),
        "seed": config.phase2.seed,
        "slots_budget": extraction.prefix.slots,
        "model": lm.describe(),
        "episode": episode.describe(),
        "slots": describe_slots(extraction.prefix, config.phase2.reporting.topk_tokens),
        "role_mass": describe_roles(extraction.prefix),
        "collapse": describe_collapse(extraction.prefix),
        "timing": {"total": seconds},
        "versions": library_versions(),
    }
