"""What the tables of this folder have in common: their options, how they are shown, how they end."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cedkv.config import load_config
from cedkv.errors import CedKVError
from cedkv.lm import LanguageModel, load_model
from cedkv.methods import METHODS

# A teacher that gets fewer queries right than this has shown no relation that is worth compressing.
TEACHER_MIN = 0.7


def options(description: str, tasks: Sequence[str], out: str) -> argparse.ArgumentParser:
    """A parser of the tasks, the model, any setting and the file of the figures."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=tasks, metavar="NAME")
    parser.add_argument("--model", default="embedded", metavar="ID")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="any other setting")
    parser.add_argument("--out", type=Path, default=Path(out), metavar="FILE")
    return parser


def load(args: argparse.Namespace) -> LanguageModel:
    """The model that `--model` names, as the settings of `--set` have it loaded."""
    run = load_config(None, [f"run.model.id={json.dumps(args.model)}", *args.set]).run
    return load_model(run.model.id, run.runtime.torch_dtype, run.runtime.device)


def add_student_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", choices=METHODS, default="ced")
    parser.add_argument("--slots", type=int, default=8, metavar="S")


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]], words: int = 0) -> str:
    """A Markdown table; the first `words` columns are flush left, the others, which are numbers, flush right."""
    marks = ["---" if index < words else "---:" for index in range(len(columns))]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in (columns, marks, *rows))


def run(main: Callable[[], None]) -> None:
    """Do the work; an error that a user can cause ends it with one line."""
    try:
        main()
    except CedKVError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")
