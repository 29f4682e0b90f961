"""Extraction methods, one file each. A new method is a file and a line here."""

from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from cedkv.config import Config
from cedkv.episodes import Episode
from cedkv.errors import ConfigError
from cedkv.events import Done, Event
from cedkv.lm import LanguageModel
from cedkv.methods.base import Extraction, Method, Workbench
from cedkv.methods.ced import ced_kv
from cedkv.methods.few_shot import few_shot
from cedkv.methods.free import free_kv
from cedkv.methods.select import select_kv

METHODS: dict[str, Method] = {
    "select": select_kv,
    "few_shot": few_shot,
    "ced": ced_kv,
    "free": free_kv,
}


def iter_extract(
    lm: LanguageModel, episode: Episode, method: str = "select", slots: int = 8, config: Config | None = None
) -> Iterator[Event]:
    """Extract a relation state and yield what happens; the last event is `Done(Extraction)`.

    Raises
    ------
    ConfigError
        The method is unknown or the number of slots is not positive.
    """
    if method not in METHODS:
        near = get_close_matches(method, METHODS, n=1, cutoff=0)[0]
        raise ConfigError(f"method {method!r} is unknown; did you mean {near!r}? Known are {', '.join(METHODS)}")
    if slots < 1:
        raise ConfigError(f"slots = {slots}: a prefix needs at least 1 slot")
    return run_method(method, Workbench(lm, episode, config or Config()), slots)


def run_method(method: str, bench: Workbench, slots: int) -> Iterator[Event]:
    """Run one method; its state leaves with the notes in `meta` that let it be used without this episode."""
    meta = {
        "method": method,
        "task": bench.episode.task,
        "template": bench.episode.template.text,
        "model": bench.lm.id,
        "teacher_bytes": bench.teacher.nbytes,
        "settings": bench.config.model_dump(mode="json"),
    }
    for event in METHODS[method](bench, slots):
        if isinstance(event, Done):
            extraction = event.result
            prefix = replace(extraction.prefix, meta={**extraction.prefix.meta, **meta})
            event = Done(replace(extraction, prefix=prefix))
        yield event


def extract(*args: Any, **options: Any) -> Extraction:
    """Drain `iter_extract` and return its extraction."""
    *_, done = iter_extract(*args, **options)
    return done.result


__all__ = ["METHODS", "Extraction", "Method", "Workbench", "extract", "iter_extract", "run_method"]
