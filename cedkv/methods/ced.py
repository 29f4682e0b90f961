"""CED-KV: slots made of the demonstrations' own KV, trained to be the teacher on the relation and nothing anywhere
else."""

from collections.abc import Iterator

from cedkv.events import Event
from cedkv.methods.base import Workbench
from cedkv.methods.chunked import closed_form
from cedkv.methods.training import train_slots
from cedkv.methods.warm import attention_by_kv_head, warm_prefix, warm_up
from cedkv.slots.least import LeastSlots
from cedkv.slots.mixture import MixtureSlots


def ced_kv(bench: Workbench, slots: int) -> Iterator[Event]:
    """Train what `phase3.start` says; mixtures of tokens are fitted to attention outputs before."""
    trained = ced_slots(bench, slots)
    warm = warm_up(bench, trained) if isinstance(trained, MixtureSlots) else ()
    yield from train_slots(bench, "ced", trained, slots, warm)


def ced_slots(bench: Workbench, slots: int) -> LeastSlots | MixtureSlots:
    """The slots as they are before training."""
    return least_slots(bench, slots) if bench.config.phase3.start == "chunks" else mixture_slots(bench, slots)


def least_slots(bench: Workbench, slots: int) -> LeastSlots:
    """Chunked slots as they are before training, less heavy than those that are not trained."""
    settings = bench.config.phase3.least
    chunked = closed_form(bench, slots, settings.start_weight)
    return LeastSlots.warm_start(bench.lm, chunked, bench.demo_kv, bench.directions, settings)


def mixture_slots(bench: Workbench, slots: int) -> MixtureSlots:
    """Mixtures of tokens as they are before training."""
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
