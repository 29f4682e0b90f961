"""The training loop: any objective, one loop. What is trained, on what, and what counts as better is the objective's.

Adam with a decaying rate, a clipped gradient, ticks that measure what really counts, the best
state kept, and checkpoints that a training goes on from bit for bit.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.errors import NonFiniteError
from cedkv.events import Event, TrainingStep, Warned
from cedkv.optim.checkpoint import (
    Checkpoint,
    Memory,
    recall_random,
    recall_training,
    training_memory,
)
from cedkv.optim.schedule import BETAS, Descent, rate_at

# A tick counts as an improvement when the value falls by more than this share.
_IMPROVEMENT = 0.01


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate: that of the first step, before it decays."""

    parameters: list[Tensor]
    learning_rate: float


@dataclass(frozen=True)
class Losses:
    """One step's terms by name, and the total that is descended."""

    terms: dict[str, Float[Tensor, ""]]
    total: Float[Tensor, ""]

    def require_finite(self, step: int, remedy: str) -> None:
        """Raise `NonFiniteError` naming the step and the term that is not a finite number."""
        for name, term in self.terms.items():
            if not torch.isfinite(term):
                raise NonFiniteError(f"step {step}: {name} is {term.item()}; {remedy}")


@dataclass(frozen=True)
class Measured:
    """What a tick found: the event that tells it, the value to minimise, and whether that is not good enough yet."""

    event: Event
    value: float
    wants_more: bool = False


class Objective(Protocol):
    """What the loop needs of a training. Subclass it: only `groups`, `losses` and `measure` have no default.

    name : what its events and warnings call it.
    remedy : what a user can do when numbers stop being finite.
    """

    name: str

    @property
    def remedy(self) -> str: ...

    @property
    def groups(self) -> Sequence[ParameterGroup]:
        """The parameters, with their learning rates."""
        ...

    def losses(self, step: int) -> Losses:
        """The loss terms of a step, on data of the objective's own choosing."""
        ...

    def measure(self, step: int) -> Measured:
        """Measure `state()` as it is after a step.

        Raises
        ------
        NonFiniteError
            What is measured is not a finite number.
        """
        ...

    def refresh(self, step: int) -> None:
        """Called before every step: renew what steps draw from, where it is time to."""
        return None

    def updated(self, step: int) -> None:
        """Called after every update of the parameters: take a running mean, say."""
        return None

    def told(self, step: int, steps: int, losses: Losses, seconds: float) -> Event:
        """The event of a step."""
        terms = {name: term.item() for name, term in losses.terms.items()}
        return TrainingStep(self.name, step, steps, losses.total.item(), terms, seconds)

    def state(self) -> dict[str, Tensor]:
        """A copy of what the training is for; of the best tick it is kept. The parameters, or a mean of the last."""
        return {str(index): parameter.detach().clone() for index, parameter in enumerate(parameters_of(self))}

    def load(self, state: dict[str, Tensor]) -> None:
        """Put the parameters where such a copy has them."""
        for index, parameter in enumerate(parameters_of(self)):
            parameter.data.copy_(state[str(index)])

    def memory(self) -> Memory:
        """What the objective must know, besides its parameters, to go on as if never cut short."""
        return Memory()

    def recall(self, memory: Memory) -> None:
        """Take back what `memory` gave."""
        return None


def parameters_of(objective: Objective) -> list[Tensor]:
    return [parameter for group in objective.groups for parameter in group.parameters]


@dataclass(frozen=True)
class LoopSettings(Descent):
    """A descent, steps between its ticks, and what may make it shorter or longer.

    patience : of the early stop, in ticks; None never stops early.
    extend_to : most steps, where the best tick wants more: `tick_every` more, again and again; None ends with the steps
        of the descent.
    """

    tick_every: int = 5
    patience: int | None = None
    extend_to: int | None = None


@dataclass
class Training:
    """A training, and what it leaves behind.

    stop : asked after every step; once it says yes, the training ends there.
    done : steps taken.
    planned : steps to take; more than those of the settings once it has been extended.
    stopped : why it ended before its last step; empty where it did not.
    best : the objective's state at the tick of the lowest value, or at the start where there was none.
    wants_more : whether that tick did.
    values : of all ticks.
    """

    objective: Objective
    settings: LoopSettings
    stop: Callable[[], bool] = lambda: False
    checkpoint: Checkpoint | None = None
    done: int = 0
    stopped: str = ""
    cancelled: bool = False
    best: dict[str, Tensor] = field(default_factory=dict)
    best_step: int | None = None
    best_value: float = math.inf
    wants_more: bool = False
    values: list[float] = field(default_factory=list)
    planned: int = field(init=False)

    def __post_init__(self) -> None:
        self.planned = self.settings.steps


def run_training(training: Training) -> Iterator[Event]:
    """Train; the best state and the values of all ticks are left in `training`.

    Asked to stop, it does so after the step in hand. A non-finite term stops the training with a warning that names
    the step and the term. With a checkpoint that has been written before, it goes on from there.

    Raises
    ------
    CheckpointError
        The checkpoint cannot be read, or is another training's.
    """
    objective, settings = training.objective, training.settings
    adam = optimiser_of(objective)
    training.best = objective.state()
    if training.checkpoint and (memory := training.checkpoint.read()):
        _recall(training, adam, memory)
    while training.done < training.planned and not training.stopped:
        step, started = training.done, time.perf_counter()
        try:
            objective.refresh(step)
            for group, asked in zip(adam.param_groups, objective.groups, strict=True):
                group["lr"] = asked.learning_rate * rate_at(step, training.planned, settings.decay)
            losses = take_step(objective, adam, step, settings.clip)
            yield objective.told(step, training.planned, losses, time.perf_counter() - started)
            if (step + 1) % settings.tick_every == 0 or step + 1 == training.planned:
                yield _tick(training, step)
        except NonFiniteError as error:
            training.stopped = str(error)
            yield Warned(f"{objective.name}: training stopped, {error}; the last good state is kept")
            return
        training.done = step + 1
        if training.stop():
            training.stopped, training.cancelled = f"step {step + 1}: cancelled", True
        elif settings.patience is not None and _stalled(training.values, settings.patience):
            training.stopped = f"step {step + 1}: {settings.patience} ticks without improvement"
        _keep(training, adam)


def optimiser_of(objective: Objective) -> torch.optim.Optimizer:
    """Adam over the objective's parameter groups."""
    groups = [{"params": group.parameters, "lr": group.learning_rate} for group in objective.groups]
    return torch.optim.Adam(groups, betas=BETAS)


def take_step(objective: Objective, optimiser: torch.optim.Optimizer, step: int, clip: float) -> Losses:
    """One step: losses, gradients, update. Raises `NonFiniteError` before anything is updated."""
    losses = objective.losses(step)
    losses.require_finite(step, objective.remedy)
    optimiser.zero_grad()
    losses.total.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters_of(objective), clip)
    if not torch.isfinite(norm):
        raise NonFiniteError(f"step {step}: the gradient is {norm.item()}; {objective.remedy}")
    optimiser.step()
    objective.updated(step)
    return losses


def _tick(training: Training, step: int) -> Event:
    try:
        measured = training.objective.measure(step)
    except NonFiniteError as error:
        raise NonFiniteError(f"step {step}: {error}") from error
    training.values.append(measured.value)
    if measured.value < training.best_value:
        training.best, training.best_step = training.objective.state(), step
        training.best_value, training.wants_more = measured.value, measured.wants_more
    if step + 1 == training.planned and training.wants_more:
        _extend(training)
    return measured.event


def _extend(training: Training) -> None:
    """Plan some more steps, as far as the settings allow. The rate rises to where it would be in a training so long."""
    settings = training.settings
    more = min(training.planned + settings.tick_every, settings.extend_to or 0)
    training.planned = max(training.planned, more)


def _stalled(values: Sequence[float], patience: int) -> bool:
    if len(values) <= patience:
        return False
    return min(values[-patience:]) > min(values[:-patience]) * (1 - _IMPROVEMENT)


def _keep(training: Training, optimiser: torch.optim.Optimizer) -> None:
    """Write the checkpoint where it is time to, or the training is over."""
    checkpoint = training.checkpoint
    over = bool(training.stopped) or training.done == training.planned
    if checkpoint is None or not checkpoint.due(training.done, over):
        return
    progress = {
        "done": training.done,
        "planned": training.planned,
        # What a user stopped goes on when it is taken up; what stopped by itself has come to its end.
        "stopped": "" if training.cancelled else training.stopped,
        "best_step": training.best_step,
        "wants_more": training.wants_more,
        "values": training.values,
    }
    parts = {
        **training_memory(parameters_of(training.objective), optimiser),
        "objective": training.objective.memory(),
        "best": Memory(training.best),
        "progress": Memory(plain=progress),
    }
    checkpoint.write(Memory.of_parts(parts))


def _recall(training: Training, optimiser: torch.optim.Optimizer, memory: Memory) -> None:
    recall_training(parameters_of(training.objective), optimiser, memory)
    recall_random(memory.part("random"))
    training.objective.recall(memory.part("objective"))
    training.best = {
        name: tensor.to(training.best[name].device) for name, tensor in memory.part("best").tensors.items()
    }
    progress = memory.part("progress").plain
    training.done, training.stopped = progress["done"], progress["stopped"]
    # What was kept before trainings could be extended says nothing of it.
    training.planned, training.wants_more = progress.get("planned", training.planned), progress.get("wants_more", False)
    training.best_step, training.values = progress["best_step"], progress["values"]
    training.best_value = min(training.values, default=math.inf)
