"""From a sweep's file to its cells: each is one extraction, or one reference, to be judged on one task and seed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cedkv.config import Config, OffDataSettings, Phase2Settings, Phase3Settings, SweepConfig, load_sweep
from cedkv.episodes import task_names
from cedkv.errors import ConfigError
from cedkv.gate.tables import config_hash, for_task
from cedkv.ledger import row_key
from cedkv.methods import METHODS
from cedkv.provenance import code_fingerprint
from cedkv.sweep.judging import REFERENCES

# Settings that the references depend on too; the others make no new ones.
_OF_REFERENCES = ("episode.", "run.", "phase2.eval.", "phase3.off_data.stress_samples")
# A sweep judges as phase 3 does.
_PHASE = 3


@dataclass(frozen=True)
class Cell:
    """What is judged at once, as plain data: it may be judged in another process, on another machine.

    slots : None for a reference.
    settings : the sweep's own, by dotted path, that make this cell another one than its neighbours.
    references : the settings of the references that it is judged beside.
    key : its row in the ledger; code : the fingerprint of the code it was planned with; fingerprint : its model's.
    """

    task: str
    seed: int
    method: str
    slots: int | None
    settings: dict[str, Any]
    config: Config
    references: Config
    key: str = ""
    code: str = ""
    fingerprint: str = ""

    @property
    def model(self) -> tuple[str, str, str]:
        """What says which model is loaded."""
        run = self.config.run
        return run.model.id, run.runtime.torch_dtype, run.runtime.device

    @property
    def beside(self) -> str:
        """Names the references: cells of one name have the same."""
        return config_hash(self.references, _PHASE)

    def __str__(self) -> str:
        return " ".join([self.task, f"seed {self.seed}", self.method, *told(self.slots, self.settings)])

    def keyed(self, fingerprint: str) -> "Cell":
        """The cell with the key of its row: its settings, what a task file says, method, model and code."""
        key = row_key(config=config_hash(self.config, _PHASE), method=self.method, model=fingerprint)
        return replace(self, key=key, code=code_fingerprint(), fingerprint=fingerprint)


@dataclass(frozen=True)
class Plan:
    sweep: SweepConfig
    cells: tuple[Cell, ...]


def told(slots: int | None, settings: dict[str, Any]) -> list[str]:
    """Slots and settings as people read them, by their last names."""
    others = {path: value for path, value in settings.items() if path != "phase3.slots"}
    return [f"S={slots}"] * bool(slots) + [f"{path.rpartition('.')[2]} {value}" for path, value in others.items()]


def read_plan(path: str | Path) -> Plan:
    """The plan in a YAML file.

    Raises
    ------
    ConfigError
        The file or one that it names cannot be read, or a setting, task or method in it cannot be used.
    """
    sweep, configs = load_sweep(path)
    for method in sweep.methods:
        if method not in METHODS:
            why = METHODS.why_refused(method) or _nearest(method, list(METHODS))
            raise ConfigError(f"{path}: methods: {method!r} is unknown; {why}")
    for task in sweep.tasks:
        if task.endswith(".json"):
            if not Path(task).is_file():
                raise ConfigError(f"{path}: tasks: there is no file {task!r}; give one that is there")
        elif task not in task_names():
            raise ConfigError(f"{path}: tasks: {task!r} is unknown; {_nearest(task, task_names())}")
    for number, config in enumerate(configs):
        if config in configs[:number]:
            same = [dict(sweep.points[place]) for place in (configs.index(config), number)]
            raise ConfigError(f"{path}: points {same[0]} and {same[1]} are the same settings; leave one of them out")
    return Plan(sweep, tuple(_cells(sweep, configs)))


def _nearest(name: str, known: list[str]) -> str:
    return f"did you mean {get_close_matches(name, known, n=1, cutoff=0)[0]!r}?"


def _cells(sweep: SweepConfig, configs: list[Config]) -> Iterator[Cell]:
    """Task by task and seed by seed, references first: what is there after an interruption can be compared."""
    for task in sweep.tasks:
        for seed in sweep.seeds:
            there: list[Config] = []
            for point, shared in zip(sweep.points, configs, strict=True):
                config = for_task(shared, task)
                config = config.model_copy(update={"run": config.run.model_copy(update={"seed": seed})})
                beside = _of_references(config)
                if beside not in there:
                    there.append(beside)
                    own = {path: value for path, value in point.items() if path.startswith(_OF_REFERENCES)}
                    yield from (Cell(task, seed, name, None, own, beside, beside) for name in REFERENCES)
                for method in sweep.methods:
                    yield Cell(task, seed, method, config.phase3.slots, point, config, beside)


def _of_references(config: Config) -> Config:
    """The settings with those alone that references depend on."""
    off_data = OffDataSettings(stress_samples=config.phase3.off_data.stress_samples)
    phase2, phase3 = Phase2Settings(eval=config.phase2.eval), Phase3Settings(off_data=off_data)
    return Config(episode=config.episode, run=config.run, phase2=phase2, phase3=phase3)
