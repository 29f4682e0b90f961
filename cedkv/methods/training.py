"""What the trained methods share: opening a training of slots, running it, and the extraction it returns."""

import os
import random
from collections.abc import Iterable, Iterator
from typing import cast

import torch

from cedkv.events import Done, Event, Progress, Tick, Warned
from cedkv.methods.base import Extraction, Workbench
from cedkv.methods.objective import Batches, SlotObjective, on_targets, remedy_for
from cedkv.methods.policy import check_policy
from cedkv.methods.pool import HardPool
from cedkv.methods.ticks import StressEval, measure_tick
from cedkv.methods.token_weights import weigh_with
from cedkv.optim.checkpoint import Checkpoint
from cedkv.optim.dual import DualLambda
from cedkv.optim.loop import LoopSettings, Training, run_training
from cedkv.slots.base import TrainableSlots
from cedkv.slots.mixture import MixtureSlots
from cedkv.state import ROLES

# Iterations of the warm start between two words about it.
_TOLD_EVERY = 10


def open_objective(bench: Workbench, method: str, slots: TrainableSlots) -> SlotObjective:
    """Everything a training of these slots needs, read once: ON targets, hard pool, stress eval."""
    phase3 = bench.config.phase3
    targets, stress = on_targets(bench), StressEval(bench, remedy_for(slots))
    # Some demonstrations are so loud that a share of them is more than any gate lets through.
    bound = min(phase3.dual.target * stress.p99(bench.teacher), phase3.thresholds.off_delta_p99_stress_max)
    return SlotObjective(
        name=method,
        lm=bench.trunk,
        slots=slots,
        targets=targets,
        batches=Batches(targets, phase3.optim.on_batch, random.Random(bench.config.run.seed)),
        pool=HardPool.open(
            bench.trunk, bench.episode, phase3.off_data.pool_size, phase3.optim.off_reads, phase3.off_data.pool_kinds
        ),
        dual=DualLambda(phase3.dual, phase3.loss.lambda_off, bound),
        measure_state=lambda state, step: measure_tick(bench, targets, stress, method, state, step),
        settings=phase3,
        weigh=weigh_with(phase3.loss.token_weights) if max(targets.reads) > 1 else None,
    )


def open_training(
    bench: Workbench, method: str, slots: TrainableSlots, checkpoint: Checkpoint | None = None
) -> Training:
    """A training of these slots as `phase3.optim` says, not yet begun."""
    optim = bench.config.phase3.optim
    patience = optim.patience if optim.early_stop else None
    settings = LoopSettings(optim.steps, optim.decay, optim.clip, optim.tick_every, patience, optim.extend_to)
    return Training(open_objective(bench, method, slots), settings, bench.stop, checkpoint)


def train_slots(
    bench: Workbench, method: str, slots: TrainableSlots, wanted: int, warm: Iterable[float] = ()
) -> Iterator[Event]:
    """Train, yielding the loop's events and at the end `Done(Extraction)` with the best state and all traces.

    warm : fits the slots as it is iterated, before the first step; yields its errors.
    """
    for warning in check_policy(bench.config.phase3, os.environ):
        yield Warned(warning)
    made = slots.template.slots
    if made < wanted:
        yield Warned(f"{method}: {wanted} slots are asked for, but only {made} tokens may be one; {made} are made")
    matching: list[float] = []
    for error in warm:
        if len(matching) % _TOLD_EVERY == 0:
            yield Progress("matching attention", len(matching), bench.config.phase3.optim.matching_iterations)
        matching.append(error)
    yield Progress("reading the teacher on queries, the base on OFF texts", 0, 1)
    training = open_training(bench, method, slots)
    for event in run_training(training):
        yield event
        if isinstance(event, Tick) and isinstance(slots, MixtureSlots):
            yield from _near_cap(event, slots)
    yield Done(trained(training, matching))


def trained(training: Training, matching: list[float]) -> Extraction:
    """The extraction that a training of slots leaves: its best state and all traces.

    matching : errors of the attention matching before it.
    """
    objective = cast(SlotObjective, training.objective)
    objective.load(training.best)
    record = {
        "method": objective.name,
        "stopped": training.stopped,
        "best_step": training.best_step,
        "attention_matching": matching,
        "steps": [step.as_dict() for step in objective.trace],
        "ticks": [tick.as_dict() for tick in objective.ticks],
        "lambda_off": objective.dual.trace,
    }
    best = [tick for tick in objective.ticks if tick.step == training.best_step]
    metrics = {"off_p99": best[0].stress_p99} if best else {}
    return Extraction(objective.name, objective.prefix(), record, metrics=metrics, complete=not training.cancelled)


def _near_cap(tick: Tick, slots: MixtureSlots) -> Iterator[Warned]:
    """A warning where the mean delimiter mass comes near its cap, the exempt sink left out."""
    steering = slots.settings.delimiter
    mass = torch.tensor(tick.slot_role_mass)[:, slots.anchors.cpu() != 0, ROLES.index("delimiter")].mean().item()
    if steering.cap < 1 and mass > steering.cap - steering.warn_margin:
        yield Warned(f"{tick.method} step {tick.step}: delimiter mass {mass:.2f} is near its cap {steering.cap:.2f}")
