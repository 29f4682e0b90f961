"""Options that several commands share, and how they become settings."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cedkv.config import Config, leaves, load_config, mixture_names, preset_names, setting, settings_today
from cedkv.errors import OutputError

if TYPE_CHECKING:  # torch takes seconds, and help needs none
    from cedkv.state import KVPrefix


def add_setting(parser: argparse._ActionsContainer, flag: str, path: str, **options: Any) -> None:
    """A flag that stands for one setting; its help is the setting's own description."""
    options.setdefault("help", setting(path).description)
    parser.add_argument(flag, dest=path, action=_Override, **options)


def override(path: str, value: Any) -> str:
    """`path=value` as `--set` takes it. As JSON a text stays a text: a task called `yes` is no truth value."""
    return f"{path}={json.dumps(value, ensure_ascii=False)}"


class _Override(argparse.Action):
    """Collects `path=value` overrides in the order in which they were given."""

    def __call__(self, parser, namespace, value, option_string=None) -> None:
        given = value if self.dest == "set" else override(self.dest, value)
        namespace.overrides = [*namespace.overrides, given]


def noted_settings(state: "KVPrefix") -> dict[str, Any]:
    """The settings in a state's notes by their paths. The notes may be anyone's: only a tree gives any."""
    tree = state.meta.get("settings")
    return dict(leaves(settings_today(tree))) if isinstance(tree, dict) else {}


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """`--config`, `--set`, the relation (`--task`, `--task-file`, `--demos`) and `--model`."""
    shipped = ", ".join(preset_names())
    parser.add_argument(
        "--config", metavar="FILE", help=f"YAML file of settings, or one that ships: {shipped}; else defaults hold"
    )
    parser.add_argument(
        "--mixture", metavar="NAME", help=f"laid over it: a YAML file, or one of {', '.join(mixture_names())}"
    )
    add_setting(parser, "--task", "episode.task", metavar="NAME")
    add_setting(parser, "--task-file", "episode.task_file", metavar="FILE")
    add_setting(parser, "--demos", "episode.demos_file", metavar="FILE")
    add_setting(parser, "--format", "episode.demos_format", metavar="NAME")
    add_override_options(parser)


def add_override_options(parser: argparse.ArgumentParser) -> None:
    """`--model` and `--set`, collected as overrides."""
    parser.set_defaults(overrides=[])
    add_setting(parser, "--model", "run.model.id", metavar="ID")
    parser.add_argument(
        "--set",
        action=_Override,
        metavar="A.B=C",
        help="any other setting, such as phase2.select.span_len=2; may be repeated, later ones win",
    )


def config_from(args: argparse.Namespace, *more: str) -> Config:
    """The file's settings, then `more` overrides, then the user's own.

    A relation named on the command line replaces the file's: its task would be another relation's held-out pairs.

    Raises
    ------
    DemoError
        The relation's files cannot be read.
    """
    from cedkv.episodes import read_source

    config = _relation_as_named(load_config(args.config, [*more, *args.overrides], args.mixture), args)
    read_source(config.episode)  # what cannot be read is said before the model is loaded, which takes longer
    return config


def _relation_as_named(config: Config, args: argparse.Namespace) -> Config:
    named = {override.partition("=")[0] for override in args.overrides}
    relation = {"episode.task": "task", "episode.task_file": "task_file", "episode.demos_file": "demos_file"}
    if not named & relation.keys():
        return config
    relation["episode.demos_format"] = "demos_format"
    replaced = {field: None for path, field in relation.items() if path not in named}
    return config.model_copy(update={"episode": config.episode.model_copy(update=replaced)})


def config_for_slots(args: argparse.Namespace) -> Config:
    """As `config_from`, for commands that judge no queries: where the model would make them up, it needs few."""
    config = config_from(args)
    if config.episode.demos_file and not (config.episode.task_file or config.episode.task):
        return config_from(args, "phase2.eval.on_samples=1")
    return config


def positive(text: str) -> int:
    """A whole number of at least 1, as argparse's `type`."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def not_negative(text: str) -> int:
    """A whole number, 0 for none of them, as argparse's `type`."""
    return 0 if text == "0" else positive(text)


def check_writable(path: str) -> None:
    """Find out before the work, not after it, that its result could not be written.

    Raises
    ------
    OutputError
        `path` is a folder, or its folder cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"output {path!r} is a folder; give the name of a file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise OutputError(f"output {path!r} cannot be written: {error.strerror}; choose another --out") from error
