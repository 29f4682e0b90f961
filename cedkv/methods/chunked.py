"""Chunked: slots in closed form, means of what stands at one place of the template, each with its weight.

No query, no training: the demonstrations' own forward and little more. The yardstick of what costs nothing, and where
training starts.
"""

from collections.abc import Iterator

from cedkv.calibration import iter_calibration
from cedkv.events import Done, Event, Progress
from cedkv.methods.base import Extraction, Workbench
from cedkv.slots.chunked import chunked_prefix, chunks_by_place
from cedkv.slots.merging import fitted_chunks
from cedkv.state import KVPrefix


def chunked(bench: Workbench, slots: int) -> Iterator[Event]:
    """As many chunks as slots, each a slot as `phase3.chunked` says."""
    yield from iter_calibration(bench.lm)
    yield Progress("chunking", 0, 1)
    yield Done(Extraction("chunked", closed_form(bench, slots, bench.config.phase3.chunked.weight)))


def closed_form(bench: Workbench, slots: int, weight: float) -> KVPrefix:
    """The chunks' slots, in the injection layers. More slots than tokens are not made."""
    config = bench.config
    places = chunks_by_place(bench.episode.tokens)
    chunks = fitted_chunks(bench.lm, bench.demo_kv, places, slots, weight, bench.last_demonstration)
    positioning = config.phase2.injection.positioning_mode
    prefix = chunked_prefix(bench.lm, bench.demo_kv, chunks, bench.directions, weight, positioning)
    return prefix.with_injection_layers(bench.layers(config.phase3.layer_scope.injection))
