"""Extraction methods, one file each. A new method is a file and a line in `METHODS`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cedkv.config import Config
from cedkv.episodes import Episode
from cedkv.errors import ConfigError
from cedkv.events import Done, Event, drain
from cedkv.labels import LABELS
from cedkv.lm import LanguageModel, demo_kv_bytes, log_probs
from cedkv.methods.amortised import amortised, extractor_digest
from cedkv.methods.base import Extraction, Method, Workbench, never
from cedkv.methods.ced import ced_kv
from cedkv.methods.chunked import chunked
from cedkv.methods.few_shot import few_shot
from cedkv.methods.free import free_kv
from cedkv.methods.pairs import PairLog, is_pair
from cedkv.methods.registry import Methods, MethodWarning
from cedkv.methods.select import select_kv
from cedkv.metrics import kl
from cedkv.state import KVPrefix

METHODS = Methods(
    {
        "select": Method(select_kv, LABELS["select"], ("phase2.prefix", "phase2.injection", "phase2.select"), "floor"),
        "few_shot": Method(few_shot, LABELS["few_shot"], (), "rival"),
        "chunked": Method(
            chunked, LABELS["chunked"], ("phase2.injection", "phase3.chunked", "phase3.layer_scope"), "free lunch"
        ),
        "amortised": Method(
            amortised,
            LABELS["amortised"],
            ("phase2.injection", "phase3.chunked", "phase3.amortised", "phase3.layer_scope"),
            "instant",
            extractor_digest,
        ),
        "ced": Method(ced_kv, LABELS["ced"], ("phase3",), "student"),
        "free": Method(free_kv, LABELS["free"], ("phase3.loss", "phase3.optim", "phase3.dual"), "ceiling"),
    }
)


def iter_extract(
    lm: LanguageModel,
    episode: Episode,
    method: str = "select",
    slots: int = 8,
    config: Config | None = None,
    stop: Callable[[], bool] = never,
) -> Iterator[Event]:
    """Extract a relation state and yield what happens; the last event is `Done(Extraction)`.

    Parameters
    ----------
    stop : asked after every training step; once it says yes, the extraction ends with the best state so far.

    Raises
    ------
    ConfigError
        The method is unknown or the number of slots is not positive.
    """
    if method not in METHODS:
        if refused := METHODS.why_refused(method):
            raise ConfigError(refused)
        near = get_close_matches(method, METHODS, n=1, cutoff=0)[0]
        raise ConfigError(f"method {method!r} is unknown; did you mean {near!r}? Known are {', '.join(METHODS)}")
    if slots < 1:
        raise ConfigError(f"slots = {slots}: a prefix needs at least 1 slot")
    return run_method(method, Workbench(lm, episode, config or Config(), stop=stop), slots)


def run_method(method: str, bench: Workbench, slots: int) -> Iterator[Event]:
    """Run one method; its state leaves with the notes in `meta` that let it be used without this episode."""
    for event in METHODS[method].run(bench, slots):
        if isinstance(event, Done):
            extraction = event.result
            metrics = {**measure(bench, extraction.prefix), **extraction.metrics}
            notes = {**describe_source(method, bench), "metrics": metrics}
            prefix = replace(extraction.prefix, meta={**extraction.prefix.meta, **notes})
            if bench.config.phase3.pair_log and is_pair(extraction, prefix):
                PairLog(Path(bench.config.phase3.pair_log)).put(prefix)
            event = Done(replace(extraction, prefix=prefix))
        yield event


def describe_source(method: str, bench: Workbench) -> dict[str, Any]:
    """Where a state comes from: model, episode, method and settings."""
    lm, episode, phase2 = bench.lm, bench.episode, bench.config.phase2
    told = episode.describe()
    return {
        "method": method,
        "task": episode.task,
        **{name: told[name] for name in ("template", "template_digest") if name in told},
        "opening": episode.opening,
        "stop": episode.stop,
        "model": lm.id,
        "tokenizer": lm.tokenizer_fingerprint,
        "episode": episode.sha256,
        "positioning": phase2.injection.positioning_mode,
        "padding": phase2.prefix.padding_mode,
        "rope": lm.rope,
        "teacher_bytes": demo_kv_bytes(lm, episode.tokens),
        "settings": bench.config.model_dump(mode="json"),
    }


def methods_in(*roles: str) -> tuple[str, ...]:
    """The names of the methods that have one of these roles in a gate, in the order of their registration."""
    return tuple(name for name, method in METHODS.items() if method.gate_role in roles)


def measure(bench: Workbench, prefix: KVPrefix) -> dict[str, float]:
    """How near a state is to the teacher on training queries: KL(teacher || student) in nats, and agreement."""
    teacher, student = bench.teacher_on_probes, log_probs(bench.lm, bench.probes, prefix)
    agreement = (teacher.argmax(-1) == student.argmax(-1)).float().mean()
    return {"train_kl": kl(teacher, student).mean().item(), "train_agreement": agreement.item()}


def extract(*args: Any, **options: Any) -> Extraction:
    """Drain `iter_extract` and return its extraction."""
    return drain(iter_extract(*args, **options))


__all__ = [
    "METHODS",
    "Extraction",
    "Method",
    "MethodWarning",
    "Workbench",
    "extract",
    "iter_extract",
    "methods_in",
    "run_method",
]
