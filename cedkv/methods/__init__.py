"""Extraction methods, one file each. A new method is a file and a line here."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from cedkv.config import Config
from cedkv.episodes import Episode
from cedkv.errors import ConfigError
from cedkv.events import Event
from cedkv.lm import LanguageModel
from cedkv.methods.base import Extraction, Method, Workbench
from cedkv.methods.few_shot import few_shot
from cedkv.methods.select import select_kv

METHODS: dict[str, Method] = {
    "select": select_kv,
    "few_shot": few_shot,
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
    return METHODS[method](Workbench(lm, episode, config or Config()), slots)


def extract(*args: Any, **options: Any) -> Extraction:
    """Drain `iter_extract` and return its extraction."""
    *_, done = iter_extract(*args, **options)
    return done.result


__all__ = ["METHODS", "Extraction", "Method", "Workbench", "extract", "iter_extract"]
