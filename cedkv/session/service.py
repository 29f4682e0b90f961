"""Everything a face asks of the engine, per session: runs, comparisons, slots. Plain data out, no widgets."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cedkv.config import Config
from cedkv.episodes import Reading, read_demos_text, task_names
from cedkv.errors import CedKVError
from cedkv.events import Event
from cedkv.methods import METHODS
from cedkv.methods.base import never
from cedkv.session.archive import pack_runs, unpack_runs
from cedkv.session.compare import iter_asked
from cedkv.session.demonstrations import as_asked, check_at_hand, forms, task_demos, task_of, with_demos, with_episode
from cedkv.session.going import Going, Stop
from cedkv.session.keep import keep_mixed
from cedkv.session.limits import Limits
from cedkv.session.looks import Looks
from cedkv.session.models import ModelShelf
from cedkv.session.reproduce import reproduce
from cedkv.session.running import Runner, phase_of
from cedkv.session.runs import Run
from cedkv.session.slots import Mix, SlotChange, similarity, slot_map
from cedkv.session.store import SessionStore
from cedkv.session.turns import Turns
from cedkv.session.upload import open_files
from cedkv.session.views import Comparison, SlotMap, Why
from cedkv.session.why import why_compared


class Service:
    """The engine behind one server. Runs come one after the other by the face's queue; short calls come in between.

    `models` has the model at hand, `running` makes runs, `going` knows those that go on, `turns` whose turn it is, and
    all that uses the model for seconds keeps to it; `looks` measures without a run.
    """

    task_of = staticmethod(task_of)
    task_demos = staticmethod(task_demos)
    as_asked = staticmethod(as_asked)
    check_at_hand = staticmethod(check_at_hand)
    forms = staticmethod(forms)
    tasks = staticmethod(task_names)
    phase_of = staticmethod(phase_of)
    reproduce = staticmethod(reproduce)

    def __init__(self, limits: Limits, store: SessionStore) -> None:
        self.limits, self.store = limits, store
        self.models = ModelShelf()
        self.going = Going(limits, store.held)
        self.running = Runner(self.models, store)
        self.turns = Turns()
        self.looks = Looks(self.models, self.turns)

    @property
    def methods(self) -> list[str]:
        return list(METHODS)

    def read_demos(self, text: str, format: str | None = None) -> Reading:
        """Pasted demonstrations, in whichever format or in the one named."""
        self.limits.check_demos(0, len(text))  # before anybody reads it
        reading = read_demos_text(text, format)
        self.limits.check_demos(len(reading.pairs), len(text))
        return reading

    def parse_demos(self, text: str) -> list[tuple[str, str]]:
        """The pairs of pasted demonstrations."""
        return [(demo.input, demo.output) for demo in self.read_demos(text).pairs]

    def slot_map(self, run: Run, method: str, layer: int | None = None, head: int | None = None) -> SlotMap:
        return slot_map(run.prefix(method), layer, head)

    def mixture_scope(self, run: Run, method: str) -> tuple[int, int]:
        """How many layers and KV heads have a mixture of their own; 1 where it is shared or there is none."""
        mixture = run.prefix(method).mixture
        return (mixture.weights.shape[0], mixture.weights.shape[1]) if mixture else (1, 1)

    def similarity(self, run: Run, method: str) -> dict[str, list[list[float]]]:
        return similarity(run.prefix(method))

    def open_files(self, session: str, paths: Sequence[Path], names: Sequence[str], run_id: str = "") -> Run:
        """Uploaded files of a run from elsewhere, as a run of this session."""
        with self.store.held(session):
            folder = self.store.folder(session)
            return self.store.add(session, open_files(paths, names, folder, self.models.get, self.limits, run_id))

    def open_zip(self, session: str, path: Path) -> Run:
        """The runs of a zip as runs of this session, which has each once however often it is opened.

        Returns the first of them, which is the newest of the session it was.
        """
        self.limits.check_upload(path)
        with TemporaryDirectory() as scratch:
            held = {run.id: run for run in self.store.runs(session)}
            opened = [
                held.get(name) or self.open_files(session, files, [file.name for file in files], name)
                for name, files in reversed(list(unpack_runs(path, Path(scratch), self.limits)))
            ]
        if not opened:
            raise CedKVError(f"{path.name!r} holds no run; open a zip that this app has written")
        return opened[-1]

    def pack(self, session: str) -> Path:
        """A zip of the session's own runs, in its folder."""
        runs = [run for run in self.store.runs(session) if run not in self.store.shared]
        if not runs:
            raise CedKVError("there is no run of this session yet; press Run first")
        return pack_runs(runs, self.store.folder(session) / "session.zip")

    def slot_change(
        self, slot: int, factor: float, from_run: str = "", from_slot: int = 1, method: str = ""
    ) -> SlotChange:
        """A change to a slot, both slots counted from 1 as a face shows them."""
        return SlotChange(slot - 1, factor, from_run, from_slot - 1, method)

    def mix(self, factors: Sequence[float], method: str = "") -> Mix:
        """A mix of all slots of a state, one factor each."""
        return Mix(tuple(factors), method)

    def keep(self, session: str, run_id: str, mix: Mix) -> Run:
        """A run of its own whose state is another run's with its slots mixed; it can be saved and judged like any."""
        run = self.store.get(session, run_id)
        with self.store.held(session):
            return self.store.add(session, keep_mixed(self.models.of(run), run, mix, self.store.folder(session)))

    def end(self, session: str) -> None:
        """Stop and forget what a session that has ended was doing."""
        self.going.end(session)
        self.store.drop(session)

    def in_turn(self, events: Iterator[Event], stop: Stop) -> Iterator[Event]:
        """The events of a run, which gives way to short calls between them and is stopped when its time is used up."""
        return self.going.in_time(self.turns.parted(events), stop)

    def judge(self, session: str, run_id: str, stop: Callable[[], bool] = never) -> Iterator[Event]:
        """The gate on the state of a run, as it is; the last event is `Done(Run)`.

        Raises
        ------
        CedKVError
            The run has no state or no demonstrations, or its settings ask for more than is allowed here.
        """
        run = self.store.get(session, run_id)
        if not run.student:
            raise CedKVError(f"run {run.id!r} has no state file to judge; press Run gate, which makes one")
        check_at_hand(run)
        config, folder = run.config, self.store.folder(session).resolve()
        own = config.episode.demos_file and Path(config.episode.demos_file).resolve().parent == folder
        self.limits.check_config(with_episode(config, demos_file=None) if own else config)
        return self.running.iter_judge(session, run, stop)

    def prepare(self, session: str, config: Config, demos: Sequence[tuple[str, str]], own: bool) -> Config:
        """The config of a run, checked against the limits; edited or `own` demonstrations become a file of the session.

        Raises
        ------
        CedKVError
            A limit is passed or the demonstrations cannot be used.
        """
        self.limits.check_config(config)
        self.limits.check_demos(len(demos), sum(len(x) + len(y) for x, y in demos))
        return with_demos(config, demos, own, self.store.folder(session))

    def iter_compare(
        self,
        session: str,
        run_id: str,
        query: str,
        views: Sequence[str] = (),
        plain: bool = False,
        change: SlotChange | Mix | None = None,
    ) -> Iterator[Comparison]:
        """Base, teacher, the run's student and the other `views` on one query.

        Parameters
        ----------
        plain : the text stands as it is; else it becomes a query of the run's template.
        change : adds the column `changed`: a state of the run with slots changed, and that state beside it.
        """
        self.limits.check_query(query)
        if not query.strip():
            raise CedKVError("the query is empty; write something to compare")
        run = self.store.get(session, run_id)
        other = self.store.get(session, change.from_run) if change and change.from_run else None
        with self.turns.short():
            yield from iter_asked(self.models.of(run), run, query, views, plain, change, other)

    def explain(self, session: str, run_id: str, comparison: Comparison, plain: bool) -> Why | None:
        """Which slots made the run's student say what it says in a finished comparison, or disturb a plain text.

        The store keeps it for the session's page to look into.
        """
        run = self.store.get(session, run_id)
        with self.turns.short():
            why = why_compared(self.models.of(run), comparison, run.prefix(run.student), run.student, plain)
        self.store.explain(session, why)
        return why
