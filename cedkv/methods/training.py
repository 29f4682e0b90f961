"""What the trained methods share: warm start, targets, the measured ticks, and the extraction they return."""

import os
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.errors import NonFiniteError
from cedkv.events import Done, Event, Progress, Tick, Warned, drain
from cedkv.lm import generate, log_probs, read_attention
from cedkv.methods.base import Extraction, Workbench
from cedkv.methods.select import select_kv, token_prefix
from cedkv.metrics import kl, role_mass, tail_stats
from cedkv.optim.dual import DualLambda
from cedkv.optim.loop import OnTargets, Training, run_training
from cedkv.optim.policy import check_policy
from cedkv.optim.pool import HardPool
from cedkv.slots.base import TrainableSlots
from cedkv.slots.matching import Matching, MatchingTarget, choose_start, match_attention
from cedkv.slots.mixture import MixtureSlots
from cedkv.state import ROLES, DemoTokens, KVPrefix

# Most tokens of an answer that training matches.
_ANSWER_TOKENS = 16

# Tokens at the end of each OFF text that the warm start reads: many texts tell more than many rows of a few.
_MATCHED_TAIL = 8

# The part of its iterations that the warm start spends on trying each start.
_TRIAL = 5

# Iterations of the warm start between two words about it.
_TOLD_EVERY = 10


def warm_prefix(bench: Workbench, slots: int, outputs_allowed: bool = True) -> KVPrefix:
    """The tokens Select-KV would copy, as the slots that training starts from, in the injection layers.

    Where its spans do not fill the slots, the last tokens do. Where output tokens may not be used, the nearest others
    stand in for them, the later ones first: what follows an answer has seen it.
    """
    chosen = drain(select_kv(bench, slots)).artifacts["selection"]["tokens"]
    rest = [token for token in reversed(range(len(bench.episode.tokens))) if token not in chosen]
    chosen = sorted(chosen + rest[: slots - len(chosen)])
    if not outputs_allowed:
        chosen = _without_outputs(bench.episode.tokens.roles, chosen)
    prefix = token_prefix(bench, chosen)
    return prefix.with_injection_layers(bench.layers(bench.config.phase3.layer_scope.injection))


def _without_outputs(roles: Sequence[str], chosen: list[int]) -> list[int]:
    kept = [token for token in chosen if roles[token] != "output"]
    for token in (token for token in chosen if roles[token] == "output"):
        free = [other for other, role in enumerate(roles) if role != "output" and other not in kept]
        kept += sorted(free, key=lambda other, place=token: (abs(other - place), -other))[:1]
    return sorted(kept)


def attention_by_kv_head(bench: Workbench) -> Float[Tensor, "layers kv_heads tokens"]:
    """Mean attention of ON training queries to each demonstration token, heads of one key/value head together."""
    attention = bench.teacher_attention.mean(dim=2)
    layers, heads, tokens = attention.shape
    return attention.view(layers, bench.lm.kv_heads, heads // bench.lm.kv_heads, tokens).mean(dim=2)


def on_targets(bench: Workbench) -> OnTargets:
    """The teacher's log-probabilities on ON training queries: of the first answer token, or of its whole answer with
    what ends it."""
    queries, block, wanted = bench.train_ids, bench.episode.tokens, bench.config.phase3.loss.on_tokens
    if wanted == "first" or (wanted == "auto" and _answers_in_one_token(block)):
        return OnTargets(queries, [1] * len(queries), list(log_probs(bench.trunk, queries, bench.teacher).split(1)))
    stop = bench.episode.stop
    room = min(1 + block.longest("output") + len(bench.lm.encode(stop)), _ANSWER_TOKENS)
    answers = generate(bench.lm, queries, bench.teacher, room, stop=stop)
    ids = [bench.lm.encode(answer) for answer in answers]
    longer = [(*query, *answer) for query, answer in zip(queries, ids, strict=True)]
    reads = [len(answer) + 1 for answer in ids]
    teacher = log_probs(bench.trunk, longer, bench.teacher, reads)
    return OnTargets(longer, reads, list(teacher.split(reads)))


def _answers_in_one_token(block: DemoTokens) -> bool:
    """Whether every answer that the block shows is one token, also after a blank that only some have in front."""
    firsts = [
        block.roles.index("output", start)
        for start, end in block.demo_spans()
        if block.roles[start:end].count("output")
    ]
    return block.longest("output") <= 1 and len({block.texts[first - 1].isspace() for first in firsts}) <= 1


def open_training(bench: Workbench, method: str, slots: TrainableSlots) -> Training:
    """Everything a training of these slots needs, read once: ON targets, hard pool, stress eval."""
    phase3 = bench.config.phase3
    targets, stress = on_targets(bench), StressEval(bench)
    return Training(
        method=method,
        lm=bench.trunk,
        slots=slots,
        targets=targets,
        pool=HardPool.open(bench.trunk, bench.episode, phase3.off_data.pool_size),
        dual=DualLambda(phase3.dual, phase3.loss.lambda_off, phase3.dual.target * stress.p99(bench.teacher)),
        measure=lambda state, step: measure_tick(bench, targets, stress, method, state, step),
        settings=phase3,
        seed=bench.config.phase2.seed,
        stop=bench.stop,
    )


def train_slots(bench: Workbench, method: str, slots: TrainableSlots, wanted: int) -> Iterator[Event]:
    """Train, yielding the loop's events and at the end `Done(Extraction)` with the best state and all traces."""
    for warning in check_policy(bench.config.phase3, os.environ):
        yield Warned(warning)
    made = slots.template.slots
    if made < wanted:
        yield Warned(f"{method}: {wanted} slots are asked for, but only {made} tokens may be one; {made} are made")
    matching: list[float] = []
    for error in warm_up(bench, slots):
        if len(matching) % _TOLD_EVERY == 0:
            yield Progress("matching attention", len(matching), bench.config.phase3.optim.matching_iterations)
        matching.append(error)
    yield Progress("reading the teacher on queries, the base on OFF texts", 0, 1)
    training = open_training(bench, method, slots)
    for event in run_training(training):
        yield event
        if isinstance(event, Tick) and isinstance(slots, MixtureSlots):
            yield from _near_cap(event, slots)
    record = {
        "method": method,
        "stopped": training.stopped,
        "best_step": training.best_tick and training.best_tick.step,
        "attention_matching": matching,
        "steps": [step.as_dict() for step in training.trace],
        "ticks": [tick.as_dict() for tick in training.ticks],
        "lambda_off": training.dual.trace,
    }
    metrics = {"off_p99": training.best_tick.stress_p99} if training.best_tick else {}
    yield Done(Extraction(method, training.best, record, metrics=metrics, complete=not training.cancelled))


def warm_up(bench: Workbench, slots: TrainableSlots) -> Iterator[float]:
    """Match attention outputs: the teacher's on ON queries, the base's on OFF texts. Yields the error as it falls."""
    optim, reading = bench.config.phase3.optim, bench.teacher_reading
    texts = bench.episode.off_set("pool", optim.matching_off_texts).texts
    alone = read_attention(bench.trunk, [bench.lm.encode(off.text) for off in texts], None, tail=_MATCHED_TAIL)
    matching = Matching(
        bench.lm,
        MatchingTarget.of(reading, reading.outputs(reading.prefix_scores, bench.teacher.values), bench.lm.kv_heads),
        MatchingTarget.of(alone, alone.own_out, bench.lm.kv_heads),
        optim.matching_off_weight,
    )
    left, rate = optim.matching_iterations, optim.matching_speedup * slots.learning_rate
    trial = left // _TRIAL
    if trial and isinstance(slots, MixtureSlots):
        for error in choose_start(matching, slots, trial, rate, optim.topk_schedule[-1]):
            left -= 1
            yield error
    yield from match_attention(matching, slots, left, rate, optim.topk_schedule)


def _near_cap(tick: Tick, slots: MixtureSlots) -> Iterator[Warned]:
    """A warning where the mean delimiter mass comes near its cap, the exempt sink left out."""
    steering = slots.settings.delimiter
    mass = torch.tensor(tick.slot_role_mass)[:, slots.anchors.cpu() != 0, ROLES.index("delimiter")].mean().item()
    if steering.cap < 1 and mass > steering.cap - steering.warn_margin:
        yield Warned(f"{tick.method} step {tick.step}: delimiter mass {mass:.2f} is near its cap {steering.cap:.2f}")


class StressEval:
    """A part of the fixed stress eval with the base's answers, as dual ascent reads it.

    Near-format texts come first: they decide the p99 of the whole, of which the first texts of all kinds tell little.
    """

    def __init__(self, bench: Workbench) -> None:
        self.lm = bench.trunk
        phase3 = bench.config.phase3
        texts = bench.episode.off_set("stress", phase3.off_data.stress_samples).texts
        hardest = sorted(texts, key=lambda off: off.bucket != "near_format")[: phase3.optim.tick_stress_samples]
        self.ids = [self.lm.encode(off.text) for off in hardest]
        self.base = log_probs(self.lm, self.ids)

    def p99(self, prefix: KVPrefix) -> float:
        """p99 of `Delta`, nats. Raises `NonFiniteError` where the model's answers are no numbers any more."""
        delta = kl(log_probs(self.lm, self.ids, prefix), self.base)
        if not delta.isfinite().all():
            raise NonFiniteError("Delta on the stress eval is not finite; lower phase3.optim.lr or use float32")
        return tail_stats(delta).p99


def measure_tick(
    bench: Workbench, targets: OnTargets, stress: StressEval, method: str, state: KVPrefix, step: int
) -> Tick:
    """The real metrics of a state; on evaluation queries only where someone observes."""
    count = bench.config.phase3.optim.tick_on_samples
    teacher = torch.cat(targets.teacher[:count])
    student = log_probs(bench.trunk, targets.ids[:count], state, targets.reads[:count])
    mass: dict[str, float] = {}
    slot_mass: list[list[list[float]]] = []
    if state.mixture is not None:
        shares = role_mass(state.mixture.weights, state.mixture.tokens.roles, ROLES).mean(1)
        mass = dict(zip(ROLES, shares.mean(dim=(0, 1)).tolist(), strict=True))
        slot_mass = shares.tolist()
    return Tick(
        method=method,
        step=step,
        train_kl=kl(teacher, student).mean().item(),
        train_agreement=(teacher.argmax(-1) == student.argmax(-1)).float().mean().item(),
        stress_p99=stress.p99(state),
        role_mass=mass,
        slot_role_mass=slot_mass,
        **(bench.observe(state) if bench.observe else {}),
    )
