"""The training of gists: documents, lesson, checkpoints, and the adapter that a folder keeps."""

from collections.abc import Iterator
from pathlib import Path

import torch

from cedkv.compressors.gist.examples import first_rows, make_examples, note_plan
from cedkv.compressors.gist.lesson import GistLesson
from cedkv.config import GistConfig
from cedkv.errors import ConfigError
from cedkv.events import Done, Event
from cedkv.files import dump_json, write_whole
from cedkv.ledger import row_key
from cedkv.lm import LanguageModel, load_model
from cedkv.lm.finetune import FineTuning, iter_finetuning
from cedkv.lm.gists import GistReader, GistShape, make_reader, save_reader
from cedkv.optim.checkpoint import FILE_NAME, Checkpoint
from cedkv.optim.folder import kept
from cedkv.provenance import library_versions


def shape_of(config: GistConfig) -> GistShape:
    lora = config.lora
    return GistShape(
        tokens=config.num_gist_tokens,
        rank=lora.r,
        alpha=lora.alpha,
        dropout=lora.dropout,
        targets=lora.target_modules,
        layers=lora.layers,
        whole_embedding=bool(lora.modules_to_save),
        sink=config.sink,
    )


def iter_gist(config: GistConfig, folder: Path, resume: bool = False) -> Iterator[Event]:
    """Train gists; `folder` then holds settings, figures, a checkpoint and `adapter/`, which every tick renews.

    Yields what the training tells and, last, `Done(dict)` with the figures on held-out documents.

    Raises
    ------
    ConfigError
        4bit is asked for where it cannot be had, or the note does not fit into the gists.
    OutputError
        The folder holds another training, or cannot be written.
    """
    if config.quantization == "4bit":
        raise ConfigError(f"quantization = '4bit' {_no_4bit()}; set it to none")
    yield from kept(_iter_all(config, folder), config, config.training.sinks, folder, resume)


def _no_4bit() -> str:
    return "is not offered on this device" if torch.cuda.is_available() else "needs CUDA, which is not here"


def _iter_all(config: GistConfig, folder: Path) -> Iterator[Event]:
    lm = load_model(config.run.model.id, config.run.runtime.torch_dtype, config.run.runtime.device)
    lesson = make_lesson(lm, config)
    reader, notes = lesson.reader, {"seed": config.run.seed, "trained": config.training.model_dump(mode="json")}
    for event in iter_finetuning(reader.model, lesson, tuning_of(config, lm, folder), folder):
        if lesson.judged and lesson.judged is not notes.get("figures"):
            notes["figures"] = lesson.judged
            save_reader(reader, folder / "adapter", notes)
        yield event
    figures = lesson.judged or lesson.judge(config.training.steps - 1)
    save_reader(reader, folder / "adapter", {**notes, "figures": figures})
    report = {
        "seed": config.run.seed,
        "model": lm.describe(),
        "gists": config.num_gist_tokens,
        "trainable": reader.trainable,
        "figures": figures,
        "versions": library_versions(),
    }
    write_whole(folder / "report.json", dump_json(report))
    yield Done(report)


def make_lesson(lm: LanguageModel, config: GistConfig) -> GistLesson:
    """Documents and a reader that has learnt nothing yet."""
    plan = note_plan(lm, config)
    train, held_out = (make_examples(lm, config, plan, held) for held in (False, True))
    return GistLesson(make_seeded_reader(lm, config), config, plan, train, held_out)


def make_seeded_reader(lm: LanguageModel, config: GistConfig) -> GistReader:
    """A reader whose adapter is drawn by the config's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        return make_reader(lm, shape_of(config), first_rows(lm, note_plan(lm, config)))


def tuning_of(config: GistConfig, lm: LanguageModel, folder: Path) -> FineTuning:
    training = config.training
    key = row_key(gist=config.model_dump(mode="json"), model=lm.fingerprint, dtype=str(lm.dtype))
    return FineTuning(
        training.steps,
        rate=training.learning_rate,
        clip=training.max_grad_norm,
        accumulate=training.gradient_accumulation_steps,
        warmup=training.warmup_steps,
        seed=config.run.seed,
        checkpoint=Checkpoint(folder / FILE_NAME, key, training.checkpoint_every),
    )
