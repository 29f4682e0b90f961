"""What long work tells while it runs. Both faces read the same events; cancelling is closing the generator."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Progress:
    """A stage has advanced: `done` of `total` units, with the wall-clock seconds it has taken so far."""

    stage: str
    done: int
    total: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Warned:
    """Something a user should know that does not stop the work."""

    message: str


@dataclass(frozen=True)
class Sample:
    """What one query or OFF text measured; a `sample` record of metrics.jsonl."""

    values: dict[str, Any]


@dataclass(frozen=True)
class StepTrace:
    """One training step: its losses, the weight of the OFF term, and the top-k in force."""

    method: str
    step: int
    steps: int
    loss_on: float
    loss_off: float
    loss_str: float
    lambda_off: float
    top_k: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Tick:
    """The real metrics, measured while training goes on."""

    method: str
    step: int
    on_accuracy: float
    on_kl: float
    stress_p99: float
    role_mass: dict[str, float]

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

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "gate"}


@dataclass(frozen=True)
class Done:
    """The work is finished; `result` is what the function that drains the generator returns."""

    result: Any = field(repr=False)


Event = Progress | Warned | Sample | StepTrace | Tick | GateCriterion | Done
