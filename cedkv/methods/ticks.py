"""What a tick measures of a state: distance from the teacher on training queries, and effect on stress texts."""

import torch

from cedkv.events import Tick
from cedkv.lm import log_probs
from cedkv.methods.base import Workbench
from cedkv.methods.objective import OnTargets, on_loss
from cedkv.metrics import kl, role_mass, tail_stats
from cedkv.probe import OffProbe
from cedkv.state import KVPrefix


class StressEval:
    """The first texts of the fixed stress eval, of all kinds alike, with the base's answers.

    No kind comes first: once near-format texts are quiet, greetings and foreign words decide what a gate counts.
    """

    def __init__(self, bench: Workbench, remedy: str) -> None:
        phase3 = bench.config.phase3
        count = min(phase3.optim.tick_stress_samples, phase3.off_data.stress_samples)
        texts = bench.episode.off_set("stress", count).texts
        self.probe = OffProbe(bench.trunk, [off.text for off in texts], "stress eval", remedy)

    def p99(self, prefix: KVPrefix) -> float:
        """p99 of `Delta`, nats. Raises `NonFiniteError` where the model's answers are no numbers any more."""
        return tail_stats(self.probe.delta(prefix)).p99


def measure_tick(
    bench: Workbench, targets: OnTargets, stress: StressEval, method: str, state: KVPrefix, step: int
) -> Tick:
    """The real metrics of a state; on evaluation queries only where someone observes."""
    count = bench.config.phase3.optim.tick_on_samples
    teacher, reads = targets.teacher[:count], targets.reads[:count]
    student = log_probs(bench.trunk, targets.ids[:count], state, reads)
    first = [torch.stack([rows[0] for rows in answers]) for answers in (teacher, student.split(reads))]
    mass: dict[str, float] = {}
    slot_mass: list[list[list[float]]] = []
    if state.mixture is not None:
        tokens = state.mixture.tokens
        shares = role_mass(state.mixture.weights, tokens.roles, tokens.role_names).mean(1)
        mass = dict(zip(tokens.role_names, shares.mean(dim=(0, 1)).tolist(), strict=True))
        slot_mass = shares.tolist()
    return Tick(
        method=method,
        step=step,
        loss_on=on_loss(student, torch.cat(teacher), reads).item(),
        train_kl=kl(*first).mean().item(),
        train_agreement=(first[0].argmax(-1) == first[1].argmax(-1)).float().mean().item(),
        stress_p99=stress.p99(state),
        role_mass=mass,
        slot_role_mass=slot_mass,
        **(bench.observe(state) if bench.observe else {}),
    )
