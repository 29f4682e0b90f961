"""Free-KV: unconstrained slots trained on the same loss. The ceiling of what slots can do, and unreadable."""

from collections.abc import Iterator

from cedkv.events import Event
from cedkv.methods.base import Workbench
from cedkv.methods.training import train_slots
from cedkv.methods.warm import warm_prefix, warm_up
from cedkv.slots.free import FreeSlots


def free_kv(bench: Workbench, slots: int) -> Iterator[Event]:
    """Train keys and values directly, from the same warm start as the mixtures."""
    optim = bench.config.phase3.optim
    free = FreeSlots.warm_start(warm_prefix(bench, slots), optim.free_lr, optim.free_sink)
    yield from train_slots(bench, "free", free, slots, warm_up(bench, free))
