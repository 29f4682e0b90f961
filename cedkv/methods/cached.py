"""Extraction through the cache on disk: what was made once of the same content is read instead of made again."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cedkv.config import Config
from cedkv.config.phase3 import Phase3Thresholds
from cedkv.episodes import Episode
from cedkv.errors import OutputError
from cedkv.events import Done, Event, Warned
from cedkv.lm import LanguageModel, cache_root
from cedkv.methods import METHODS, Extraction, Workbench, describe_source, iter_extract
from cedkv.provenance import code_fingerprint
from cedkv.state.cache import StateCache, content_key

# Settings that judge or show a state but have no part in making it; training aims at the bound on stress p99.
# Episode and model go in by content.
_NO_PART: dict[str, Any] = {
    "episode": True,
    "phase2": {"eval", "thresholds", "reporting"},
    "phase3": {"thresholds": set(Phase3Thresholds.model_fields) - {"off_delta_p99_stress_max"}, "pair_log": True},
    "run": {"model"},
}


def extraction_cache() -> StateCache:
    """The user's cache of extraction results; see `cedkv.lm.cache_root`."""
    return StateCache(cache_root() / "states")


def extraction_key(lm: LanguageModel, episode: Episode, method: str, slots: int, config: Config) -> str:
    """What an extraction is made of: episode, method, settings, model and its precisions, code, format version.

    Evaluation queries have a part only where training reads foreign templates, which keep off what is asked.
    Of another package's method the code is told by the package's version.
    """
    foreign = "foreign" in config.phase3.off_data.pool_kinds
    return content_key(
        episode=episode.sha256,
        method=method,
        slots=slots,
        settings=config.model_dump(mode="json", exclude=_NO_PART),
        model=lm.fingerprint,
        dtype=[str(lm.dtype), str(lm.training_dtype(config.phase3.optim.train_dtype))],
        kept_off=[episode.task, [list(query.ids) for query in episode.on_eval]] if foreign else None,
        beside=METHODS[method].beside(lm, config),
        code=[code_fingerprint(), METHODS.package(method)],
    )


def iter_cached_extract(
    states: StateCache, lm: LanguageModel, episode: Episode, method: str, slots: int, config: Config
) -> Iterator[Event]:
    """`iter_extract`, unless the cache has its state. A state from the cache comes without traces and artifacts.

    A cache that cannot be written is warned of: the state is there all the same.

    Raises
    ------
    ConfigError
        As `iter_extract`.
    """
    key = extraction_key(lm, episode, method, slots, config)
    prefix = states.get(key, lm.fingerprint)
    if prefix is not None and not config.phase3.pair_log:  # a pair is noted by the training that found it
        # The name of the task and the settings that only judge may be others than when it was made.
        source = describe_source(method, Workbench(lm, episode, config))
        yield Done(Extraction(method, replace(prefix, meta={**prefix.meta, **source})))
        return
    for event in iter_extract(lm, episode, method, slots, config):
        if isinstance(event, Done):
            try:
                states.put(key, event.result.prefix)
            except OutputError as error:
                yield Warned(f"this state is not kept for the next time: {error}")
        yield event
