"""The training of an extractor: episodes, lesson, checkpoints, and the extractor that a folder keeps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cedkv.calibration import iter_calibration
from cedkv.compressors.extractor import Extractor, save_extractor, shape_for
from cedkv.config import ExtractorConfig
from cedkv.events import Done, Event
from cedkv.extractor.episodes import LessonEpisode, draw_episodes, tasks_of
from cedkv.extractor.lesson import ExtractorLesson
from cedkv.extractor.pairs import start_from_pairs
from cedkv.files import dump_json, write_whole
from cedkv.ledger import row_key
from cedkv.lm import LanguageModel, load_model
from cedkv.optim.checkpoint import FILE_NAME, Checkpoint
from cedkv.optim.folder import kept
from cedkv.optim.loop import LoopSettings, Training, run_training
from cedkv.provenance import library_versions


def iter_extractor(config: ExtractorConfig, folder: Path, resume: bool = False) -> Iterator[Event]:
    """Train an extractor; `folder` then holds settings, figures, a checkpoint and `extractor/`, renewed by every tick.

    Yields what the training tells and, last, `Done(dict)` with the figures on the judged episodes.

    Raises
    ------
    DemoError
        A task or template cannot be used.
    OutputError
        The folder holds another training, or cannot be written.
    """
    tasks_of(config)
    yield from kept(_iter_all(config, folder), config, config.training.sinks, folder, resume)


def _iter_all(config: ExtractorConfig, folder: Path) -> Iterator[Event]:
    lm = load_model(config.run.model.id, config.run.runtime.torch_dtype, config.run.runtime.device)
    yield from iter_calibration(lm)
    lesson = make_lesson(lm, config)
    training, notes = training_of(lesson, folder), _notes(config, lesson.pairs)
    written = None
    for event in run_training(training):
        yield event
        if training.best_step is not None and training.best_step != written:
            written = training.best_step
            _save(lesson, training, folder, {**notes, "step": written, "judged": lesson.ticks[written]})
    report = {
        "seed": config.run.seed,
        "model": lm.describe(),
        "pairs": lesson.pairs,
        "parameters": sum(number.numel() for number in lesson.net.parameters()),
        "best_step": training.best_step,
        "stopped": training.stopped,
        "figures": {} if training.best_step is None else lesson.ticks[training.best_step],
        "versions": library_versions(),
    }
    write_whole(folder / "report.json", dump_json(report))
    yield Done(report)


def make_lesson(lm: LanguageModel, config: ExtractorConfig) -> ExtractorLesson:
    """Episodes, none of them read yet, and an extractor that knows at most what a pair log tells."""
    train, judged = ([LessonEpisode(lm, drawn, config) for drawn in some] for some in draw_episodes(config))
    net = Extractor(shape_for(lm, config.width), config.run.seed)
    pairs = start_from_pairs(net, lm, config)
    return ExtractorLesson(lm, net.to(lm.device), config, train, judged, pairs)


def training_of(lesson: ExtractorLesson, folder: Path) -> Training:
    """The training of a lesson, with its checkpoint in the folder."""
    config, lm = lesson.config, lesson.lm
    key = row_key(extractor=config.model_dump(mode="json"), model=lm.fingerprint, dtype=str(lm.dtype))
    checkpoint = Checkpoint(folder / FILE_NAME, key, config.training.checkpoint_every)
    told = config.training
    settings = LoopSettings(told.steps, told.decay, told.clip, tick_every=told.tick_every)
    return Training(lesson, settings, checkpoint=checkpoint)


def _save(lesson: ExtractorLesson, training: Training, folder: Path, notes: dict[str, Any]) -> None:
    best = Extractor(lesson.net.shape)
    best.load_state_dict(training.best)
    save_extractor(best, lesson.lm, folder / "extractor", notes)


def _notes(config: ExtractorConfig, pairs: int) -> dict[str, Any]:
    """What the extractor was trained on and what it has never seen, for whoever has nothing but its folder.

    pairs : how many it began with; the log itself stays where it is.
    """
    told = config.model_dump(mode="json", exclude={"data": {"tasks", "pairs"}})
    return {"tasks": tasks_of(config), "pairs": pairs, **told}
