"""What limits slots: curves over their number, their weight, layers and roles, and the bottleneck in words.

Chunked slots cost no training, so every point is there at once. All points are measured on training queries, held back
from any training here, and on OFF texts of the training split: what is chosen by a diagnosis is not chosen on what the
gate judges.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from cedkv.calibration import iter_calibration
from cedkv.config import Config
from cedkv.events import Done, Event, Progress
from cedkv.gate.bottleneck import find_bottlenecks
from cedkv.harm import yardsticks
from cedkv.lm import log_probs
from cedkv.methods import Workbench, run_method
from cedkv.methods.chunked import closed_form
from cedkv.metrics import kl, role_mass, tail_stats
from cedkv.probe import OffProbe
from cedkv.report.slots import describe_collapse
from cedkv.slots.chunked import chunks_by_place
from cedkv.state import KVPrefix

Point = dict[str, Any]

# Share of a slot's weight on token 0 above which it is the attention sink.
_SINK = 0.5


@dataclass(frozen=True)
class Reach:
    """How far the curves go.

    slots : numbers of slots besides the configured one and that of the template's places.
    dial : weights of a slot of n tokens, as powers of n.
    bands : groups of neighbouring layers that are switched off one at a time.
    lambdas : weights of the OFF loss, of which each is a training; none by default.
    queries, texts : how many are read at every point.
    """

    slots: tuple[int, ...] = (1, 2, 4, 6, 8, 12, 16)
    dial: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    bands: int = 6
    lambdas: tuple[float, ...] = ()
    queries: int = 32
    texts: int = 64


class Ruler:
    """The teacher on held-back training queries and the base on OFF texts of the training split, read once."""

    def __init__(self, bench: Workbench, reach: Reach) -> None:
        self.bench = bench
        held = max(1, min(reach.queries, len(bench.train_ids) // 2))
        self.queries, self.trained_on = bench.train_ids[-held:], bench.episode.on_train[:-held]
        stream = bench.episode.pool_stream()
        self.off = OffProbe(bench.lm, [next(stream).text for _ in range(reach.texts)], "OFF texts of the pool")

    @cached_property
    def teacher(self) -> Float[Tensor, "queries vocab"]:
        return log_probs(self.bench.lm, self.queries, self.bench.teacher)

    def point(self, prefix: KVPrefix | None) -> Point:
        """`agreement` with the teacher's first token, `kl` to it, and `Delta` on OFF texts; divergences in nats."""
        student = log_probs(self.bench.lm, self.queries, prefix)
        off = tail_stats(self.off.delta(prefix))
        return {
            "agreement": (student.argmax(-1) == self.teacher.argmax(-1)).float().mean().item(),
            "kl": kl(self.teacher, student).mean().item(),
            "off_mean": off.mean,
            "off_p99": off.p99,
        }


def iter_diagnosis(bench: Workbench, reach: Reach | None = None) -> Iterator[Event]:
    """Measure all curves and yield what happens; the last event is `Done` with the diagnosis, ready for JSON."""
    reach = reach or Reach()
    ruler, slots, weight = Ruler(bench, reach), bench.config.phase3.slots, bench.config.phase3.chunked.weight
    yield from iter_calibration(bench.lm)
    yield Progress("diagnosing: references", 0, 1)
    state = closed_form(bench, slots, weight)
    found: dict[str, Any] = {
        "slots": slots,
        "weight": weight,
        "places": len(chunks_by_place(bench.episode.tokens)),
        "queries": len(ruler.queries),
        "references": references(bench, ruler, state),
    }
    yield from _curve(found, "by_slots", "slots", _sizes(reach, found), lambda size: _sized(bench, ruler, size, weight))
    yield from _curve(
        found, "by_weight", "weight", reach.dial, lambda dial: ruler.point(closed_form(bench, slots, dial))
    )
    yield Progress("diagnosing: layers and roles", 0, 1)
    found["by_layer"] = by_layer(ruler, state, reach.bands)
    found["by_role"] = by_role(ruler, state)
    found["by_lambda"] = []
    for value in reach.lambdas:
        found["by_lambda"].append((yield from _trained(bench, ruler, value)))
    found["bottlenecks"] = [finding.as_dict() for finding in find_bottlenecks(found)]
    yield Done(found)


def references(bench: Workbench, ruler: Ruler, state: KVPrefix) -> dict[str, Point]:
    """What the slots are between: nothing, all demonstrations, neutral text in front, and the state's sink alone.

    Behind a sink a text's own first token is none any more, which moves the text before any other slot does.
    """
    others = [slot for slot, kind in enumerate(_slot_roles(state)) if kind != "sink"]
    prefixes = {
        "base": None,
        "teacher": bench.teacher,
        **yardsticks(bench.lm, len(bench.episode.tokens)),
        "sink_alone": state.without(others),
    }
    return {name: ruler.point(prefix) for name, prefix in prefixes.items()}


def by_layer(ruler: Ruler, state: KVPrefix, bands: int) -> list[Point]:
    """The state without each band of the layers that see it: what the band gives, and what it costs other text."""
    seen = state.active.any(dim=-1).nonzero().flatten().cpu()
    points = []
    for part in seen.tensor_split(min(bands, len(seen))):
        others = [layer for layer in seen.tolist() if layer not in part.tolist()]
        points.append({"layers": part.tolist(), **ruler.point(state.with_injection_layers(others))})
    return points


def by_role(ruler: Ruler, state: KVPrefix) -> list[Point]:
    """The state without the slots of each role, and without the sink."""
    kinds = _slot_roles(state)
    groups = {role: [slot for slot, kind in enumerate(kinds) if kind == role] for role in dict.fromkeys(kinds)}
    return [{"role": role, "slots": slots, **ruler.point(state.without(slots))} for role, slots in groups.items()]


def _slot_roles(state: KVPrefix) -> list[str]:
    mixture = state.mixture
    assert mixture is not None, "chunks are a mixture"
    names = mixture.tokens.role_names
    heaviest = role_mass(mixture.weights, mixture.tokens.roles, names).mean(dim=(0, 1)).argmax(-1).tolist()
    on_sink = (mixture.weights[..., 0].mean(dim=(0, 1)) > _SINK).tolist()
    return ["sink" if sink else names[role] for sink, role in zip(on_sink, heaviest, strict=True)]


def _sizes(reach: Reach, found: dict[str, Any]) -> list[int]:
    return sorted({*reach.slots, found["slots"], found["places"]})


def _sized(bench: Workbench, ruler: Ruler, size: int, weight: float) -> Point:
    state = closed_form(bench, size, weight)
    collapse = dict(describe_collapse(state))
    kept = ("overlap_max", "value_cosine_max", "effective_rank_values", "near_copies")
    return {"made": state.slots, **ruler.point(state), **{name: collapse[name] for name in kept}}


def _curve(found: dict[str, Any], name: str, axis: str, places, measure) -> Iterator[Event]:
    found[name] = []
    for number, place in enumerate(places):
        yield Progress(f"diagnosing: {axis}", number, len(places))
        found[name].append({axis: place, **measure(place)})


def _trained(bench: Workbench, ruler: Ruler, value: float) -> Generator[Event, None, Point]:
    """One training with this weight of the OFF loss, on the queries that are not held back; returns its point."""
    phase3 = bench.config.phase3
    still = phase3.dual.model_copy(update={"enabled": False})
    changed = phase3.model_copy(update={"loss": phase3.loss.model_copy(update={"lambda_off": value}), "dual": still})
    config: Config = bench.config.model_copy(update={"phase3": changed})
    episode = replace(bench.episode, on_train=ruler.trained_on)
    for event in run_method("ced", Workbench(bench.lm, episode, config, stop=bench.stop), phase3.slots):
        if isinstance(event, Done):
            return {"lambda_off": value, **ruler.point(event.result.prefix)}
        yield event
    raise AssertionError("a method ends with its extraction")
