"""CED-KV: slots made of the demonstrations' own KV, trained to be the teacher on the relation and nothing anywhere
else."""

from collections.abc import Iterator
from operator import attrgetter

from cedkv.calibration import iter_calibration
from cedkv.config import Phase3Settings
from cedkv.errors import ConfigError
from cedkv.events import Event, Warned
from cedkv.lm.selective import selective_directions
from cedkv.methods.base import Workbench
from cedkv.methods.chunked import closed_form
from cedkv.methods.training import train_slots
from cedkv.methods.warm import attention_by_kv_head, warm_prefix, warm_up
from cedkv.slots.least import LeastSlots
from cedkv.slots.mixture import MixtureSlots
from cedkv.state import KVPrefix

# Queries, and OFF texts, that a selective weight is fitted on.
_TOLD_APART = 48
# Settings that chunks have no use for, beside `mixture`, which is refused there.
_OF_TOKENS = (
    "layer_scope.mixture",
    "optim.lr",
    "optim.matching_iterations",
    "optim.matching_speedup",
    "optim.matching_queries",
    "optim.matching_off_texts",
    "optim.matching_off_weight",
    "optim.topk_schedule",
)


def ced_kv(bench: Workbench, slots: int) -> Iterator[Event]:
    """Train what `phase3.start` says; mixtures of tokens are fitted to attention outputs before."""
    if idle := idle_settings(bench.config.phase3):
        yield Warned(f"ced: chunks are trained without {', '.join(idle)}; phase3.start: tokens heeds what is set there")
    if bench.config.phase3.start == "chunks":
        yield from iter_calibration(bench.lm)
    trained = ced_slots(bench, slots)
    warm = warm_up(bench, trained) if isinstance(trained, MixtureSlots) else ()
    yield from train_slots(bench, "ced", trained, slots, warm)


def idle_settings(phase3: Phase3Settings) -> list[str]:
    """The settings that somebody changed and that change nothing in what `ced` trains."""
    if phase3.start == "tokens":
        return []
    default = Phase3Settings()
    of_tokens = _OF_TOKENS if phase3.least.price or phase3.least.value_rank else (*_OF_TOKENS, "loss.lambda_str")
    return [f"phase3.{path}" for path in of_tokens if attrgetter(path)(phase3) != attrgetter(path)(default)]


def ced_slots(bench: Workbench, slots: int) -> LeastSlots | MixtureSlots:
    """The slots as they are before training."""
    return least_slots(bench, slots) if bench.config.phase3.start == "chunks" else mixture_slots(bench, slots)


def least_slots(bench: Workbench, slots: int) -> LeastSlots:
    """Chunked slots as they are before training, less heavy than those that are not trained; raises as `set_free`."""
    return set_free(bench, closed_form(bench, slots, bench.config.phase3.least.start_weight))


def set_free(bench: Workbench, chunked: KVPrefix) -> LeastSlots:
    """Chunked slots with what `phase3.least` lets training change of them.

    Raises
    ------
    ConfigError
        Nothing of them may change.
    """
    settings, apart = bench.config.phase3.least, None
    if settings.selective:
        off = [bench.lm.encode(off.text) for off in bench.episode.off_set("pool", _TOLD_APART).texts]
        apart = selective_directions(bench.lm, chunked, bench.train_ids[:_TOLD_APART], off)
    made = LeastSlots.warm_start(bench.lm, chunked, bench.demo_kv, bench.directions, settings, apart)
    if not made.groups:
        raise ConfigError(
            f"phase3.least: weight, gain and selective are false, value_rank is 0, and within_chunks = "
            f"{settings.within_chunks} leaves no slot to learn either; set one of them to true, or train nothing: "
            "the method chunked, or refine_steps=0"
        )
    return made


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
