"""What the trained methods share: warm start, targets, the measured ticks, and the extraction they return."""

import os
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.events import Done, Event, Tick, Warned
from cedkv.lm import LanguageModel, generate, log_probs
from cedkv.methods.base import Extraction, Workbench
from cedkv.methods.select import select_kv, token_prefix
from cedkv.metrics import kl, role_mass, tail_stats
from cedkv.optim.dual import DualLambda
from cedkv.optim.loop import OnTargets, Training, run_training
from cedkv.optim.mixture import TrainableSlots
from cedkv.optim.policy import check_policy
from cedkv.optim.pool import HardPool
from cedkv.state import ROLES, KVPrefix

# Answer tokens matched with `loss.on_tokens: all`.
_ANSWER_TOKENS = 4


def warm_prefix(bench: Workbench, slots: int) -> KVPrefix:
    """The tokens Select-KV would copy, as the slots that training starts from, in the injection layers."""
    *_, done = select_kv(bench, slots)
    prefix = token_prefix(bench, done.result.artifacts["selection"]["tokens"])
    return prefix.with_injection_layers(bench.layers(bench.config.phase3.layer_scope.injection))


def attention_by_kv_head(bench: Workbench) -> Float[Tensor, "layers kv_heads tokens"]:
    """Mean attention of ON training queries to each demonstration token, heads of one key/value head together."""
    attention = bench.teacher_attention.mean(dim=2)
    layers, heads, tokens = attention.shape
    return attention.view(layers, bench.lm.kv_heads, heads // bench.lm.kv_heads, tokens).mean(dim=2)


def on_targets(bench: Workbench) -> OnTargets:
    """The teacher's log-probabilities on ON training queries: of the first answer token, or of its whole answer."""
    queries = bench.train_ids
    if bench.config.phase3.loss.on_tokens == "first":
        return OnTargets(queries, [1] * len(queries), list(bench.teacher_train_log_probs.split(1)))
    stop = bench.episode.template.stop
    answers = generate(bench.lm, queries, bench.teacher, _ANSWER_TOKENS, stop=stop)
    ids = [bench.lm.encode(answer) or [] for answer in answers]
    longer = [(*query, *answer[:-1]) for query, answer in zip(queries, ids, strict=True)]
    reads = [max(len(answer), 1) for answer in ids]
    teacher = log_probs(bench.lm, longer, bench.teacher, reads)
    return OnTargets(longer, reads, list(teacher.split(reads)))


def train_slots(bench: Workbench, method: str, slots: TrainableSlots) -> Iterator[Event]:
    """Train, yielding the loop's events and at the end `Done(Extraction)` with the best state and all traces."""
    phase3 = bench.config.phase3
    for warning in check_policy(phase3, os.environ):
        yield Warned(warning)
    trunk = bench.lm.in_dtype(torch.bfloat16) if phase3.optim.train_dtype == "bfloat16" else bench.lm
    stress = StressEval(bench, trunk)
    training = Training(
        method=method,
        lm=trunk,
        slots=slots,
        targets=on_targets(bench),
        pool=HardPool.open(trunk, bench.episode, phase3.off.pool_size),
        dual=DualLambda(phase3.dual, phase3.loss.lambda_off, phase3.dual.target * stress.p99(bench.teacher)),
        measure=lambda state, step: measure_tick(bench, trunk, stress, method, state, step),
        settings=phase3,
        seed=bench.config.phase2.seed,
    )
    yield from run_training(training)
    record = {
        "method": method,
        "stopped": training.stopped,
        "steps": [step.as_dict() for step in training.trace],
        "ticks": [tick.as_dict() for tick in training.ticks],
        "lambda_off": training.dual.trace,
    }
    yield Done(Extraction(method, training.best, training=record))


class StressEval:
    """The first texts of the fixed stress eval with the base's answers, as dual ascent reads them."""

    def __init__(self, bench: Workbench, trunk: LanguageModel) -> None:
        phase3 = bench.config.phase3
        texts = bench.episode.off_set("stress", phase3.off.stress_samples).texts
        self.lm = trunk
        self.ids = [trunk.encode(off.text) for off in texts[: phase3.optim.tick_stress_samples]]
        self.base = log_probs(trunk, self.ids)

    def p99(self, prefix: KVPrefix) -> float:
        """p99 of `Delta`, nats."""
        return tail_stats(kl(log_probs(self.lm, self.ids, prefix), self.base)).p99


def measure_tick(
    bench: Workbench, trunk: LanguageModel, stress: StressEval, method: str, state: KVPrefix, step: int
) -> Tick:
    """The real metrics of a state; on evaluation queries only where someone observes."""
    count = bench.config.phase3.optim.tick_on_samples
    teacher = bench.teacher_train_log_probs[:count]
    student = log_probs(trunk, bench.train_ids[:count], state)
    mass: dict[str, float] = {}
    if state.mixture is not None:
        shares = role_mass(state.mixture.weights, state.mixture.tokens.roles, ROLES).mean(dim=(0, 1))
        mass = dict(zip(ROLES, shares.tolist(), strict=True))
    return Tick(
        method=method,
        step=step,
        train_kl=kl(teacher, student).mean().item(),
        train_agreement=(teacher.argmax(-1) == student.argmax(-1)).float().mean().item(),
        stress_p99=stress.p99(state),
        role_mass=mass,
        **(bench.observe(state) if bench.observe else {}),
    )
