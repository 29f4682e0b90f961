"""Train weights: token weighting with several tokens ahead (wmtp)."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cedkv.cli.options import add_override_options
from cedkv.cli.show import ProgressLine, drain, table
from cedkv.config import TrainingConfig, load_training_config
from cedkv.events import Event

# Settings, the folder, whether to go on: what a training tells, and at the end its report.
Iterate = Callable[[TrainingConfig, Path, bool], Iterator[Event]]


def _wmtp() -> Iterate:
    from cedkv.wmtp.stages import iter_wmtp

    return iter_wmtp


# A new training is a line here. Each is imported when it is asked for: trainers take seconds to load.
TRAININGS: dict[str, Callable[[], Iterate]] = {
    "wmtp": _wmtp,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=sorted(TRAININGS), help="wmtp: weighted multi-token prediction")
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; without it every default holds")
    add_override_options(parser)
    parser.add_argument("--out", metavar="DIR", help="the training's folder (default: runs/train-WHAT)")
    parser.add_argument("--resume", action="store_true", help="go on with the training that --out holds")


def run(args: argparse.Namespace) -> int:
    folder = Path(args.out or f"runs/train-{args.what}")
    config = load_training_config(args.config, args.overrides)
    report = drain(TRAININGS[args.what]()(config, folder, args.resume), ProgressLine())
    print(figures_table(report))
    print(folder)
    return 0


def figures_table(report: dict[str, Any]) -> str:
    return table([[name, f"{value:.3f}"] for name, value in report["figures"].items()], right=(1,))
