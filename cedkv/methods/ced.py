"""CED-KV: slots as sparse convex mixtures of the demonstrations' own KV, trained to be the teacher on the relation
and nothing anywhere else."""

from collections.abc import Iterator

from cedkv.events import Event
from cedkv.methods.base import Workbench
from cedkv.methods.training import train_slots
from cedkv.methods.warm import attention_by_kv_head, warm_prefix, warm_up
from cedkv.slots.mixture import MixtureSlots


def ced_kv(bench: Workbench, slots: int) -> Iterator[Event]:
    """Train a mixture as `phase3.mixture` says, warm-started from the anchors."""
    mixture = mixture_slots(bench, slots)
    yield from train_slots(bench, "ced", mixture, slots, warm_up(bench, mixture))


def mixture_slots(bench: Workbench, slots: int) -> MixtureSlots:
    """The slots as they are before training."""
    phase3 = bench.config.phase3
    closed = "input_and_delimiter_only" in (phase3.mixture.key_candidates, phase3.mixture.value_candidates)
    return MixtureSlots.warm_start(
        bench.demo_kv,
        warm_prefix(bench, slots, outputs_allowed=not closed),
        attention_by_kv_head(bench),
        phase3.mixture,
        bench.layers(phase3.layer_scope.mixture),
        phase3.optim.lr,
    )
