"""What slots are trained for: the teacher on ON queries, the base on OFF texts, in one packed forward per step."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.config import Phase3Settings
from cedkv.events import StepTrace, Tick
from cedkv.lm import LanguageModel, generate, log_probs, packed_logits
from cedkv.methods.base import Workbench
from cedkv.methods.pool import HardPool, PooledText, draw_memory, recall_draw
from cedkv.methods.token_weights import Weigh
from cedkv.metrics import cvar, kl, tail_stats
from cedkv.optim.checkpoint import Memory
from cedkv.optim.dual import DualLambda
from cedkv.optim.loop import Losses, Measured, Objective, ParameterGroup
from cedkv.optim.schedule import top_k_at
from cedkv.slots.base import TrainableSlots, detached
from cedkv.slots.mixture import MixtureSlots
from cedkv.state import KVPrefix
from cedkv.wmtp.answers import answer_values

# Most tokens of an answer that training matches.
_ANSWER_TOKENS = 16


@dataclass(frozen=True)
class OnTargets:
    """ON training queries with the teacher's log-probabilities of the rows that are read, computed once.

    reads : rows read at the end of each query; more than one when whole answers are matched.
    values : a critic's, before and after each answer token; empty where none weighs them.
    """

    ids: list[tuple[int, ...]]
    reads: list[int]
    teacher: list[Float[Tensor, "_rows vocab"]]
    values: list[Float[Tensor, " _places"]] = field(default_factory=list)

    def rows(self, chosen: Sequence[int]) -> "OnTargets":
        return OnTargets(
            [self.ids[row] for row in chosen],
            [self.reads[row] for row in chosen],
            [self.teacher[row] for row in chosen],
            [self.values[row] for row in chosen] if self.values else [],
        )


def on_targets(bench: Workbench) -> OnTargets:
    """The teacher's log-probabilities on ON training queries: of its whole greedy answer with what ends it, or of the
    first token alone."""
    queries, loss = bench.train_ids, bench.config.phase3.loss
    if loss.on_tokens == "first":
        return OnTargets(queries, [1] * len(queries), list(log_probs(bench.trunk, queries, bench.teacher).split(1)))
    stop = bench.episode.stop
    room = min(1 + bench.episode.tokens.longest("output") + len(bench.lm.encode(stop)), _ANSWER_TOKENS)
    answers = generate(bench.lm, queries, bench.teacher, room, stop=stop)
    ids = [bench.lm.encode(answer) for answer in answers]
    longer = [(*query, *answer) for query, answer in zip(queries, ids, strict=True)]
    reads = [len(answer) + 1 for answer in ids]
    teacher = log_probs(bench.trunk, longer, bench.teacher, reads)
    values = answer_values(bench.trunk, longer, list(map(len, ids))) if loss.token_weights == "critic" else []
    # A row more than tokens: an answer's end, which changes no mind.
    values = [torch.cat([row, row[-1:]]) for row in values]
    return OnTargets(longer, reads, list(teacher.split(reads)), values)


@dataclass
class Batches:
    """Batches of `count` queries, or of all where there are fewer. Each query comes once before any comes again."""

    targets: OnTargets
    count: int
    draw: random.Random
    waiting: list[int] = field(default_factory=list)

    def next(self) -> OnTargets:
        queries = range(len(self.targets.ids))
        if len(self.waiting) < self.count:
            self.waiting += self.draw.sample(queries, len(queries))
        rows, self.waiting = self.waiting[: self.count], self.waiting[self.count :]
        return self.targets.rows(rows)


def on_loss(
    student: Float[Tensor, "rows vocab"],
    teacher: Float[Tensor, "rows vocab"],
    reads: Sequence[int],
    weights: Float[Tensor, " rows"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over queries of KL(teacher || student), nats: that of an answer's first token, and added to it the mean of
    what follows.

    Averaged into it, an answer's end would take half of `L_on` from the one token that says what the relation is.

    Parameters
    ----------
    reads : rows of each query.
    weights : of the rows, mean 1; None counts all alike.
    """
    apart = kl(teacher, student) if weights is None else weights * kl(teacher, student)
    shares = [1.0 if row == 0 else 1 / (count - 1) for count in reads for row in range(count)]
    return apart @ apart.new_tensor(shares) / len(reads)


def off_loss(
    student: Float[Tensor, "reads vocab"], base: Float[Tensor, "reads vocab"], tail_fraction: float
) -> Float[Tensor, ""]:
    """CVaR of `Delta = KL(student || base)`: the mean over the worst `tail_fraction` of the rows read, nats."""
    return cvar(kl(student, base), tail_fraction)


def batch_terms(
    lm: LanguageModel,
    slots: TrainableSlots,
    on: OnTargets,
    off: list[PooledText],
    top_k: int,
    tail_fraction: float,
    weigh: Weigh | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """The loss terms of ON queries and OFF texts from one packed forward, the LM head only on the rows read."""
    queries = [*on.ids, *(text.ids for text in off)]
    reads = [*on.reads, *(len(text.base) for text in off)]
    student = packed_logits(lm, queries, slots.prefix(top_k), reads).float().log_softmax(dim=-1)
    answers = sum(on.reads)
    weights = weigh(student[:answers].split(on.reads), on.teacher, on.values) if weigh else None
    return {
        "L_on": on_loss(student[:answers], torch.cat(on.teacher), on.reads, weights),
        "L_off": off_loss(student[answers:], torch.cat([text.base for text in off]), tail_fraction),
        "L_str": torch.as_tensor(slots.structure_loss(top_k)),
    }


def remedy_for(slots: TrainableSlots) -> str:
    """What a user can do when numbers stop being finite."""
    return f"lower {slots.rates} or use float32"


@dataclass
class SlotObjective(Objective):
    """L = lambda_on * L_on + lambda_off * L_off + lambda_str * L_str, with dual ascent on lambda_off.

    measure_state : the real metrics of a state after a step.
    weigh : the tokens of whole answers in L_on; None counts all alike.
    trace, ticks : what was told so far.
    """

    name: str
    lm: LanguageModel
    slots: TrainableSlots
    targets: OnTargets
    batches: Batches
    pool: HardPool
    dual: DualLambda
    measure_state: Callable[[KVPrefix, int], Tick]
    settings: Phase3Settings
    weigh: Weigh | None = None
    trace: list[StepTrace] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)

    @property
    def remedy(self) -> str:
        return remedy_for(self.slots)

    @property
    def groups(self) -> Sequence[ParameterGroup]:
        return self.slots.groups

    def top_k(self, step: int) -> int:
        return top_k_at(step, self.settings.optim.steps, self.settings.optim.topk_schedule)

    def prefix(self) -> KVPrefix:
        """The slots as they are now, as sparse as they end."""
        return detached(self.slots.prefix(self.settings.optim.topk_schedule[-1]))

    def refresh(self, step: int) -> None:
        if step % self.settings.off_data.refill_every == 0:
            self.pool.refill(detached(self.slots.prefix(self.top_k(step))), self.settings.off_data.candidates)

    def losses(self, step: int) -> Losses:
        loss, off = self.settings.loss, self.pool.sample(self.settings.optim.off_batch)
        terms = batch_terms(
            self.lm, self.slots, self.batches.next(), off, self.top_k(step), loss.tail_fraction, self.weigh
        )
        weights = {"L_on": loss.lambda_on, "L_off": self.dual.value, "L_str": loss.lambda_str}
        return Losses(terms, cast(Tensor, sum(weights[name] * term for name, term in terms.items())))

    def told(self, step: int, steps: int, losses: Losses, seconds: float) -> StepTrace:
        terms = {name: term.item() for name, term in losses.terms.items()}
        told = StepTrace(
            method=self.name,
            step=step,
            steps=steps,
            loss_on=terms["L_on"],
            loss_off=terms["L_off"],
            loss_str=terms["L_str"],
            lambda_off=self.dual.value,
            top_k=self.top_k(step) if isinstance(self.slots, MixtureSlots) else None,
            seconds=seconds,
        )
        self.trace.append(told)
        return told

    def measure(self, step: int) -> Measured:
        """Above the bound a nat of p99 costs as much as a nat of `L_on`; below it OFF effect does not count.

        A training that may be extended wants more steps while its best state is too loud, and a state that is not
        too loud is better: what is counted above that bound costs as much again.
        """
        state, sources = self.prefix(), self.settings.off_data
        tick = self.measure_state(state, step)
        self.ticks.append(tick)
        self.dual.update(step, self._off_p99(sources.dual_metric_source, state, tick))
        constrained = self._off_p99(sources.off_constraint_source, state, tick)
        value, optim = tick.loss_on + max(constrained - self.dual.bound, 0.0), self.settings.optim
        too_loud = max(tick.stress_p99 - optim.extend_above, 0.0) if optim.extend_to else 0.0
        return Measured(tick, value + too_loud, wants_more=too_loud > 0)

    def _off_p99(self, source: str, state: KVPrefix, tick: Tick) -> float:
        """p99 of `Delta` (nats) on the data a setting names: the fixed stress eval or, in debugging, the hard pool."""
        return tick.stress_p99 if source == "fixed_stress" else tail_stats(self.pool.delta(state)).p99

    def memory(self) -> Memory:
        own = {
            "waiting": self.batches.waiting,
            "draw": draw_memory(self.batches.draw),
            "dual": [self.dual.value, self.dual.ema, self.dual.ticks, self.dual.trace],
            "trace": [step.as_dict() for step in self.trace],
            "ticks": [tick.as_dict() for tick in self.ticks],
        }
        return Memory.of_parts({"own": Memory(plain=own), "pool": self.pool.memory()})

    def recall(self, memory: Memory) -> None:
        own = memory.part("own").plain
        self.batches.waiting = own["waiting"]
        recall_draw(self.batches.draw, own["draw"])
        self.dual.value, self.dual.ema, self.dual.ticks, self.dual.trace = own["dual"]
        self.trace = [StepTrace(**step) for step in own["trace"]]
        self.ticks = [Tick(**tick) for tick in own["ticks"]]
        self.pool.recall(memory.part("pool"))
