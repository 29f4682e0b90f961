"""What a kind of gate is, and how its criteria come to their verdicts."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cedkv.config import Config
from cedkv.episodes import Episode
from cedkv.evaluation import Scorer
from cedkv.events import GateCriterion
from cedkv.lm import LanguageModel
from cedkv.methods import Workbench, methods_in
from cedkv.report import Report
from cedkv.state import KVPrefix


@dataclass(frozen=True)
class Trial:
    """Something drawn by chance several times, whose mean scores stand beside the methods'.

    draw : takes a bench, the number of slots and the trial's number.
    kept : whether the first draw's state is written, to stand beside the others when a query is looked at.
    """

    draw: Callable[[Workbench, int, int], KVPrefix]
    kept: bool = False


@dataclass(frozen=True)
class Kind:
    """A kind of gate: what is judged beside what, by which criteria, and what the report says of it.

    phase : the number that `--phase` and the report name it by; it is part of the names of files and figures.
    about : what it judges, as people read it.
    student : the method whose gate it is. The methods that have one of `roles` run in the order of their registration.
    episode : the episode that a config describes.
    off_sizes : the OFF sets that are judged, with their numbers of texts.
    trials : by the view's name in the report.
    scorer : says which whole answers are right.
    criteria : those of Gate B, from the report and the settings.
    record : the line of figures that ends metrics.jsonl.
    summary : what a complete report says besides.
    given : views whose states are there already; they are judged after the methods.
    """

    phase: int
    about: str
    student: str
    roles: tuple[str, ...]
    episode: Callable[[LanguageModel, Config], Episode]
    slots: Callable[[Config], int]
    off_sizes: Callable[[Config], dict[str, int]]
    trials: Mapping[str, Trial]
    scorer: Scorer
    criteria: Callable[[Report, Config], Iterator[GateCriterion]]
    record: Callable[[Report], dict[str, Any]]
    summary: Callable[[Report], dict[str, Any]] = lambda report: {}
    given: Mapping[str, KVPrefix] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What names of files and figures begin with."""
        return f"phase{self.phase}"

    @property
    def methods(self) -> tuple[str, ...]:
        return (*methods_in(*self.roles), *self.given)


def criterion(name: str, value: float, op: str, threshold: float, about: str) -> GateCriterion:
    """A Gate B criterion with its verdict."""
    passed = value >= threshold if op == ">=" else value <= threshold
    return GateCriterion("B", name, value, op, threshold, passed, about)


def verdicts(label: str, report: Report) -> dict[str, bool]:
    """Whether Gate A and Gate B pass, as a record's last figures."""
    gates = {"A": report["gate_a"], "B": report["gate_b"]}
    return {f"{label}_gate{gate}_pass": all(row["passed"] for row in rows) for gate, rows in gates.items()}
