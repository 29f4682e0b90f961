"""What long work tells while it runs. Both faces read the same events; cancelling is closing the generator."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cedkv.errors import Cancelled
from cedkv.report import CriterionRow


@dataclass(frozen=True)
class Progress:
    """A stage has advanced: `done` of `total` units, with the wall-clock seconds it has taken so far."""

    stage: str
    done: int
    total: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Opened:
    """The run's folder is there; what is written into it stays, even if the work is cut short.

    stages : what is to come, in order, by the names that `Progress` and `StepTrace` say.
    """

    folder: Path
    stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Warned:
    """Something a user should know that does not stop the work."""

    message: str


@dataclass(frozen=True)
class Noted:
    """Something a user should see, and nothing is wrong with it."""

    message: str


@dataclass(frozen=True)
class Sample:
    """What one query or OFF text measured; a `sample` record of metrics.jsonl."""

    values: dict[str, Any]


@dataclass(frozen=True)
class TrainingStep:
    """One step of any training: its total loss, the terms by name, and how long it took."""

    method: str
    step: int
    steps: int
    loss: float
    terms: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class TrainingTick:
    """What any training measured on its way: `value` is what it minimises, `figures` stand beside it."""

    method: str
    step: int
    value: float
    figures: dict[str, float]


@dataclass(frozen=True)
class StepTrace:
    """One training step of slots: its losses, the weight of the OFF term, and the top-k in force.

    top_k : None where slots are no mixtures of single tokens.
    """

    method: str
    step: int
    steps: int
    loss_on: float
    loss_off: float
    loss_str: float
    lambda_off: float
    top_k: int | None
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Tick:
    """The real metrics, measured while training goes on.

    loss_on : `L_on` on ON training queries, nats. The best state is chosen by it and `stress_p99`.
    train_kl, train_agreement : on the same queries KL(teacher || student) of the first token, nats, and how often both
        would say the same.
    stress_p99 : of `Delta` on those of the gate's stress texts that ticks read, nats.
    role_mass : the mixture's mass per token role, mean over layers and slots.
    slot_role_mass : the same per layer and slot, roles in the order of `role_mass`.
    eval_accuracy, eval_kl, eval_answer_logprob : on the evaluation queries, only where a gate is watching;
        nothing is chosen by them.
    """

    method: str
    step: int
    loss_on: float
    train_kl: float
    train_agreement: float
    stress_p99: float
    role_mass: dict[str, float]
    eval_accuracy: float | None = None
    eval_kl: float | None = None
    eval_answer_logprob: float | None = None
    slot_role_mass: list[list[list[float]]] = field(default_factory=list, repr=False)

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class GateCriterion:
    """One line of a gate: `value op threshold`."""

    gate: str
    name: str
    value: float
    op: str
    threshold: float
    passed: bool
    about: str

    def as_row(self) -> CriterionRow:
        """As the report holds it, under its gate."""
        return CriterionRow(
            name=self.name,
            value=self.value,
            op=self.op,
            threshold=self.threshold,
            passed=self.passed,
            about=self.about,
        )


@dataclass(frozen=True)
class Measured:
    """The figures of a benchmark so far: what is there is final, and more is to come."""

    figures: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Done:
    """The work is finished; `result` is what the function that drains the generator returns."""

    result: Any = field(repr=False)


Event = (
    Progress
    | Opened
    | Warned
    | Noted
    | Sample
    | TrainingStep
    | TrainingTick
    | StepTrace
    | Tick
    | GateCriterion
    | Measured
    | Done
)


def drain(events: Iterator[Event], tell: Callable[[Event], object] = lambda event: None) -> Any:
    """Let work run to its end and return the result of its last `Done`; `tell` hears everything before that.

    Raises
    ------
    Cancelled
        The work ended without a result: it was told to stop.
    """
    folder, done = None, None
    for event in events:
        if isinstance(event, Done):
            done = event
        else:
            folder = event.folder if isinstance(event, Opened) else folder
            tell(event)
    if done is None:
        kept = f"what was measured so far is kept in {folder}" if folder else "nothing of it is kept"
        raise Cancelled(f"the work was cancelled before it had a result; {kept}")
    return done.result


@contextmanager
def timed(timing: dict[str, float], part: str) -> Iterator[None]:
    """Add the wall-clock seconds of a block to `timing[part]`."""
    started = datetime.now(UTC)
    try:
        yield
    finally:
        timing[part] = timing.get(part, 0.0) + (datetime.now(UTC) - started).total_seconds()
