"""One training step: its time beside the arithmetic it needs and the rate the machine has for it."""

import statistics
from collections.abc import Iterator
from typing import Any

import torch

from cedkv.bench.arithmetic import ModelShape
from cedkv.bench.machine import DTYPES, gemm_gflops, seconds_of, synchronize
from cedkv.bench.plan import Plan
from cedkv.config import Config
from cedkv.episodes import Episode
from cedkv.events import Event, Measured, Progress
from cedkv.lm import LanguageModel
from cedkv.methods import Workbench
from cedkv.methods.ced import ced_slots
from cedkv.methods.objective import SlotObjective
from cedkv.methods.pool import PooledText
from cedkv.methods.training import open_objective
from cedkv.optim.loop import optimiser_of, take_step

_WARM_UP = 2


class StepTimer:
    """The default training in one dtype, stopped before its first step, to take the same step again and again."""

    def __init__(self, lm: LanguageModel, episode: Episode, config: Config, dtype: str, slots: int) -> None:
        optim = config.phase3.optim
        optim = optim.model_copy(update={"train_dtype": "model" if dtype == "fp32" else "bfloat16"})
        config = config.model_copy(update={"phase3": config.phase3.model_copy(update={"optim": optim})})
        bench = Workbench(lm.in_dtype(torch.float32), episode, config)
        self.objective, self.clip = self._open(bench, slots), optim.clip
        self.adam = optimiser_of(self.objective)
        self.times: list[float] = []

    @staticmethod
    def _open(bench: Workbench, slots: int) -> SlotObjective:
        objective, optim = open_objective(bench, "ced", ced_slots(bench, slots)), bench.config.phase3.optim
        objective.refresh(0)
        # Pool and queries are cut down to one batch, so that every step reads the same texts.
        objective.pool.texts = objective.pool.sample(optim.off_batch)
        objective.batches.targets = objective.targets.rows(range(len(objective.targets.ids))[: optim.on_batch])
        return objective

    @property
    def texts(self) -> list[PooledText]:
        return self.objective.pool.texts

    @property
    def lengths(self) -> list[int]:
        return [*map(len, self.objective.batches.targets.ids), *(len(text.ids) for text in self.texts)]

    @property
    def reads(self) -> list[int]:
        return [*self.objective.batches.targets.reads, *(len(text.base) for text in self.texts)]

    @property
    def active(self) -> list[int]:
        return self.objective.slots.prefix(self.objective.top_k(0)).active.sum(1).tolist()

    def flop(self, shape: ModelShape) -> int:
        """Floating-point operations that the step needs."""
        return shape.step_flop(self.lengths, self.reads, self.active)

    def step(self) -> None:
        take_step(self.objective, self.adam, 0, self.clip)
        synchronize(self.objective.lm.device)


def measure_step(
    lm: LanguageModel, episode: Episode, config: Config, plan: Plan, result: dict[str, Any]
) -> Iterator[Event]:
    """Fill in `gemm_gflops` and `step`. The dtypes take turns, and the rate is measured before and after.

    A dtype that this machine only emulates would take half an hour; `left_out` then says so in its place.
    """
    some = StepTimer(lm, episode, config, "fp32", plan.usual_slots)
    shape, timers = ModelShape.of(lm), {"fp32": some}
    rates = [gemm_gflops(shape, sum(some.lengths), lm.device)]
    result["gemm_gflops"] = rates[0]
    yield Measured(result)
    for dtype in DTYPES.keys() - timers.keys():
        rate = rates[0][dtype]
        seconds = (_WARM_UP + plan.steps) * some.flop(shape) / 1e9 / rate
        if seconds > plan.step_seconds:
            why = f"matrix products run at {rate:.1f} GFLOP/s, so its steps would take over {seconds:.0f} s"
            result["left_out"][f"step.{dtype}"] = why
            continue
        timers[dtype] = StepTimer(lm, episode, config, dtype, plan.usual_slots)
        # It mined a pool of its own, and rounding decides what is hardest.
        timers[dtype].objective.pool.texts = some.texts
    for number in range(_WARM_UP + plan.steps):
        yield Progress("timing the training step", number, _WARM_UP + plan.steps)
        for timer in timers.values():
            timer.times.append(seconds_of(timer.step))
    rates.append(gemm_gflops(shape, sum(some.lengths), lm.device))
    result["gemm_gflops"] = {dtype: max(rate[dtype] for rate in rates) for dtype in DTYPES}
    result["step"] = [_row(dtype, timer, shape, result["gemm_gflops"][dtype]) for dtype, timer in timers.items()]


def _row(dtype: str, timer: StepTimer, shape: ModelShape, rate: float) -> dict[str, Any]:
    gflop = timer.flop(shape) / 1e9
    seconds = statistics.median(timer.times[_WARM_UP:])
    return {
        "dtype": dtype,
        "texts": len(timer.lengths),
        "tokens": sum(timer.lengths),
        "rows_read": sum(timer.reads),
        "gflop": gflop,
        "seconds": seconds,
        "steps_per_second": 1 / seconds,
        "gflops": gflop / seconds,
        "utilisation": gflop / seconds / rate,
    }
