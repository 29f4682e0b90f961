"""Train what an episode needs no training for afterwards: gist tokens, an extractor, or token weighting (wmtp)."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cedkv.cli.options import add_override_options
from cedkv.cli.show import ProgressLine, drain, table
from cedkv.config import ExtractorConfig, GistConfig, Settings, TrainingConfig, load_settings
from cedkv.events import Event


@dataclass(frozen=True)
class Command:
    """A training: what it is, the schema of its settings, and what runs it, imported when it is asked for.

    trainer : gives a function of settings, the folder, and whether to go on, which tells what the training tells.
    """

    about: str
    settings: type[Settings]
    trainer: Callable[[], Callable[[Any, Path, bool], Iterator[Event]]]


def _extractor() -> Callable[[Any, Path, bool], Iterator[Event]]:
    from cedkv.extractor.stages import iter_extractor

    return iter_extractor


def _gist() -> Callable[[Any, Path, bool], Iterator[Event]]:
    from cedkv.compressors.gist.stages import iter_gist

    return iter_gist


def _wmtp() -> Callable[[Any, Path, bool], Iterator[Event]]:
    from cedkv.wmtp.stages import iter_wmtp

    return iter_wmtp


# A new training is a line here. Each is imported when it is asked for: trainers take seconds to load.
TRAININGS: dict[str, Command] = {
    "extractor": Command("an extractor of relation states in one forward", ExtractorConfig, _extractor),
    "gist": Command("gist tokens that read documents", GistConfig, _gist),
    "wmtp": Command("weighted multi-token prediction", TrainingConfig, _wmtp),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    known = "; ".join(f"{name}: {training.about}" for name, training in TRAININGS.items())
    parser.add_argument("what", choices=sorted(TRAININGS), help=known)
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; without it every default holds")
    add_override_options(parser)
    parser.add_argument("--out", metavar="DIR", help="the training's folder (default: runs/train-WHAT)")
    parser.add_argument("--resume", action="store_true", help="go on with the training that --out holds")


def run(args: argparse.Namespace) -> int:
    folder, training = Path(args.out or f"runs/train-{args.what}"), TRAININGS[args.what]
    config = load_settings(training.settings, args.config, args.overrides)
    report = drain(training.trainer()(config, folder, args.resume), ProgressLine())
    print(figures_table(report))
    print(folder)
    return 0


def figures_table(report: dict[str, Any]) -> str:
    return table([[name, f"{value:.3f}"] for name, value in report["figures"].items()], right=(1,))
