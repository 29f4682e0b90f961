"""Amortised: the closed form as a trained extractor corrects it. No query and no training on the episode: the
demonstrations' own forward, a mean, and one pass of a small network; then, where asked for, ordinary training from
there.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cedkv.calibration import iter_calibration
from cedkv.compressors.extractor import TrainedExtractor, extracted, load_extractor
from cedkv.compressors.shipped import shipped_extractor
from cedkv.config import Config
from cedkv.events import Done, Event, Progress, Warned
from cedkv.lm import LanguageModel
from cedkv.methods.base import Extraction, Workbench
from cedkv.methods.ced import set_free
from cedkv.methods.chunked import closed_form
from cedkv.methods.training import train_slots
from cedkv.state import KVPrefix

NAME = "amortised"


def amortised(bench: Workbench, slots: int) -> Iterator[Event]:
    """Closed-form slots, corrected; a model that no extractor was trained for has the closed form itself.

    Raises
    ------
    ModelError
        The extractor that is named cannot be read, or was trained for another model.
    """
    yield from iter_calibration(bench.lm)
    yield Progress("chunking", 0, 1)
    settings = bench.config.phase3.amortised
    extractor = extractor_for(bench.lm, bench.config)
    closed = closed_form(bench, slots, bench.config.phase3.chunked.weight)
    if extractor is None:
        yield Warned(
            f"amortised: no extractor ships for {bench.lm.id!r}, so its slots are the closed form; train one (python "
            "-m cedkv train extractor) and name its folder in phase3.amortised.extractor"
        )
    start = closed if extractor is None else corrected_by(extractor, bench, closed)
    if settings.refine_steps:
        yield from _refined(bench, start, slots)
    else:
        yield Done(Extraction(NAME, start))


def extractor_for(lm: LanguageModel, config: Config) -> TrainedExtractor | None:
    """The extractor that the settings name, or the one that ships for the model."""
    folder = _folder(lm, config)
    return load_extractor(lm, folder) if folder else None


def extractor_digest(lm: LanguageModel, config: Config) -> str:
    """What tells extractors apart; empty where there is none."""
    extractor = extractor_for(lm, config)
    return extractor.digest if extractor else ""


def corrected_by(extractor: TrainedExtractor, bench: Workbench, closed: KVPrefix) -> KVPrefix:
    """The closed form as an extractor corrects it; the state notes which one did."""
    prefix = extracted(extractor.net, bench.lm, closed, bench.demo_kv, bench.directions)
    return replace(prefix, meta={**prefix.meta, "extractor": extractor.digest})


def _folder(lm: LanguageModel, config: Config) -> Path | None:
    named = config.phase3.amortised.extractor
    return Path(named) if named else shipped_extractor(lm.fingerprint)


def _refined(bench: Workbench, start: KVPrefix, slots: int) -> Iterator[Event]:
    """Ordinary training of chunks, from slots that are good already."""
    phase3 = bench.config.phase3
    optim = phase3.optim.model_copy(update={"steps": phase3.amortised.refine_steps, "extend_to": None})
    config = bench.config.model_copy(update={"phase3": phase3.model_copy(update={"optim": optim})})
    yield from train_slots(replace(bench, config=config), NAME, set_free(bench, start), slots)
