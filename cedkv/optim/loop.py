"""The training loop: one packed forward per step, for mixtures and for free slots alike."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.config import Phase3Settings
from cedkv.errors import NonFiniteError
from cedkv.events import Event, StepTrace, Tick, Warned
from cedkv.lm import LanguageModel, packed_logits
from cedkv.metrics import tail_stats
from cedkv.optim.dual import DualLambda
from cedkv.optim.losses import Losses, off_loss, on_loss
from cedkv.optim.pool import HardPool, PooledText
from cedkv.optim.schedule import rate_at, top_k_at
from cedkv.slots.base import TrainableSlots, detached
from cedkv.state import KVPrefix

# A tick counts as an improvement when the objective falls by more than this share.
_IMPROVEMENT = 0.01


@dataclass(frozen=True)
class OnTargets:
    """ON training queries with the teacher's log-probabilities of the rows that are read, computed once.

    reads : rows read at the end of each query; more than one when whole answers are matched.
    """

    ids: list[tuple[int, ...]]
    reads: list[int]
    teacher: list[Float[Tensor, "rows vocab"]]


@dataclass
class Training:
    """Everything one training needs, and what it leaves behind."""

    method: str
    lm: LanguageModel
    slots: TrainableSlots
    targets: OnTargets
    pool: HardPool
    dual: DualLambda
    measure: Callable[[KVPrefix, int], Tick]
    settings: Phase3Settings
    seed: int
    stop: Callable[[], bool]
    trace: list[StepTrace] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    stopped: str = ""
    cancelled: bool = False
    best: KVPrefix | None = None
    best_tick: Tick | None = None
    best_objective: float = float("inf")
    objectives: list[float] = field(default_factory=list)

    def top_k(self, step: int) -> int:
        return top_k_at(step, self.settings.optim.steps, self.settings.optim.topk_schedule)


def run_training(training: Training) -> Iterator[Event]:
    """Train the slots; the best state and all traces are left in `training`.

    Asked to stop, it does so after the step in hand and keeps the best state so far. A non-finite term stops the
    training with a warning that names the step and the term, keeping the last good state.
    """
    optim = training.settings.optim
    batches = _batches(training.targets, optim.on_batch, random.Random(training.seed))
    adam = torch.optim.Adam(training.slots.parameters, lr=training.slots.learning_rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: rate_at(step, optim.steps, optim.decay))
    training.best = detached(training.slots.prefix(optim.topk_schedule[-1]))
    for step in range(optim.steps):
        started = time.perf_counter()
        if step % training.settings.off_data.refill_every == 0:
            training.pool.refill(
                detached(training.slots.prefix(training.top_k(step))), training.settings.off_data.candidates
            )
        try:
            losses = take_step(training, adam, step, next(batches))
            schedule.step()
            yield _record(training, step, losses, time.perf_counter() - started)
            if (step + 1) % optim.tick_every == 0 or step + 1 == optim.steps:
                yield _tick(training, step)
        except NonFiniteError as error:
            training.stopped = str(error)
            yield Warned(f"{training.method}: training stopped, {error}; the last good state is kept")
            return
        if training.stop():
            training.stopped, training.cancelled = f"step {step + 1}: cancelled", True
            return
        if optim.early_stop and _stalled(training):
            training.stopped = f"step {step + 1}: {optim.patience} ticks without improvement"
            return


def take_step(training: Training, adam: torch.optim.Optimizer, step: int, on: OnTargets) -> Losses:
    """One step: losses of a batch, gradients, update. Raises `NonFiniteError` before anything is updated."""
    settings = training.settings
    off = training.pool.sample(settings.optim.off_batch)
    losses = batch_losses(training.lm, training.slots, on, off, training.top_k(step), settings.loss.tail_fraction)
    losses.require_finite(step)
    adam.zero_grad()
    losses.total(settings.loss.lambda_on, training.dual.value, settings.loss.lambda_str).backward()
    norm = torch.nn.utils.clip_grad_norm_(training.slots.parameters, settings.optim.clip)
    if not torch.isfinite(norm):
        raise NonFiniteError(f"step {step}: the gradient is {norm.item()}; lower phase3.optim.lr or use float32")
    adam.step()
    return losses


def batch_losses(
    lm: LanguageModel,
    slots: TrainableSlots,
    on: OnTargets,
    off: list[PooledText],
    top_k: int,
    tail_fraction: float,
) -> Losses:
    """The loss terms of ON queries and OFF texts from one packed forward, the LM head only on the rows read."""
    queries = [*on.ids, *(text.ids for text in off)]
    reads = [*on.reads, *([1] * len(off))]
    student = packed_logits(lm, queries, slots.prefix(top_k), reads).float().log_softmax(dim=-1)
    answers = sum(on.reads)
    return Losses(
        on=on_loss(student[:answers], torch.cat(on.teacher)),
        off=off_loss(student[answers:], torch.stack([text.base for text in off]), tail_fraction),
        structure=slots.structure_loss(top_k),
    )


def _batches(targets: OnTargets, count: int, draw: random.Random) -> Iterator[OnTargets]:
    """Batches of `count` queries, or of all where there are fewer. Each query comes once before any comes again."""
    queries = range(len(targets.ids))
    waiting: list[int] = []
    while True:
        if len(waiting) < count:
            waiting += draw.sample(queries, len(queries))
        rows, waiting = waiting[:count], waiting[count:]
        yield OnTargets(
            [targets.ids[row] for row in rows],
            [targets.reads[row] for row in rows],
            [targets.teacher[row] for row in rows],
        )


def _record(training: Training, step: int, losses: Losses, seconds: float) -> StepTrace:
    trace = StepTrace(
        method=training.method,
        step=step,
        steps=training.settings.optim.steps,
        loss_on=losses.on.item(),
        loss_off=losses.off.item(),
        loss_str=losses.structure.item(),
        lambda_off=training.dual.value,
        top_k=training.top_k(step),
        seconds=seconds,
    )
    training.trace.append(trace)
    return trace


def _tick(training: Training, step: int) -> Tick:
    state = detached(training.slots.prefix(training.settings.optim.topk_schedule[-1]))
    try:
        tick = training.measure(state, step)
    except NonFiniteError as error:
        raise NonFiniteError(f"step {step}: {error}") from error
    training.ticks.append(tick)
    training.dual.update(step, _off_p99(training, training.settings.off_data.dual_metric_source, state, tick))
    # Above the bound a nat of p99 costs as much as a nat of ON KL; below it OFF effect does not count.
    constrained = _off_p99(training, training.settings.off_data.off_constraint_source, state, tick)
    objective = tick.train_kl + max(constrained - training.dual.bound, 0.0)
    training.objectives.append(objective)
    if objective < training.best_objective:
        training.best, training.best_tick, training.best_objective = state, tick, objective
    return tick


def _off_p99(training: Training, source: str, state: KVPrefix, tick: Tick) -> float:
    """p99 of `Delta` (nats) on the data a setting names: the fixed stress eval or, in debugging, the hard pool."""
    return tick.stress_p99 if source == "fixed_stress" else tail_stats(training.pool.delta(state)).p99


def _stalled(training: Training) -> bool:
    history, patience = training.objectives, training.settings.optim.patience
    if len(history) <= patience:
        return False
    return min(history[-patience:]) > min(history[:-patience]) * (1 - _IMPROVEMENT)
