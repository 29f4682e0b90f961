"""The command line, one file per command. A new command is a file and a line in `COMMANDS`.

A command's module is imported when that command is asked for: torch and transformers take seconds, and neither the list
of commands nor a command's name that is wrong needs them. Exit codes: 0 done (the gate passed), 1 the gate failed, 2 an
error, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn, Protocol, cast

from cedkv.errors import CedKVError, ConfigError
from cedkv.version import __version__

# The module of each command, `cedkv/cli/NAME.py`, and its help: the first line of that module's docstring.
COMMANDS = {
    "gate": "Judge a relation's KV prefix with Gate A and Gate B and write the report.",
    "extract": "Make a relation state from demonstrations and save it to a file.",
    "query": "Ask a relation state: what base, teacher and student say to the same text.",
    "inspect": "Show what a state file holds: slots, their tokens and weights, size, model, method. Loads no model.",
    "cache": "List or clear the states that earlier extractions left in the cache.",
    "train": "Train what an episode needs no training for afterwards: gist tokens, an extractor, "
    "or token weighting (wmtp).",
    "pairs": "List, verify or export what trainings left in a pair log.",
    "documents": "Judge views of documents: full context, retrieval, gists and others, "
    "on needles and themes or on files.",
    "bench": "Measure speed and memory on this machine and write the figures as JSON.",
    "diagnose": "Find what limits a relation's slots, and say which option to try.",
    "sweep": "Map what settings do to ON and OFF over tasks, seeds and methods: "
    "here, in processes or on a Ray cluster.",
    "app": "Start the web app.",
    "serve": "Write a state for another engine: vLLM, llama.cpp, or plain transformers with PEFT.",
}
EXIT_ERROR = 2
# As shells report a process that SIGINT or SIGPIPE ended.
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class Command(Protocol):
    """What a command's module offers. Its docstring's first line is the command's help."""

    __doc__: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit code."""


def load_command(name: str) -> Command:
    return cast(Command, import_module(f"cedkv.cli.{name}"))


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are errors like any other: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


class _Commands(argparse._SubParsersAction):
    """Gives a command's parser its arguments when that command is asked for."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        name = cast(Sequence[Any], values)[0]
        if name in COMMANDS:  # any other is refused by argparse
            load_command(name).add_arguments(self.choices[name])
        super().__call__(parser, namespace, values, option_string)


def build_parser() -> argparse.ArgumentParser:
    """A parser for one command line: the arguments of the command that it names are added as it is parsed."""
    parser = Parser(prog="cedkv", description="Demonstrations as a KV prefix of a few readable slots.")
    parser.add_argument("--version", action="version", version=f"cedkv {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", action=_Commands)
    for name, about in COMMANDS.items():
        commands.add_parser(name, help=about, description=about, allow_abbrev=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error a user can cause is one line on stderr."""
    try:
        given = sys.argv[1:] if argv is None else list(argv)
        for argument in given:
            _check_text(argument)
        args = build_parser().parse_args(given)
        code = load_command(args.command).run(args)
        sys.stdout.flush()
        return code
    except CedKVError as error:
        return _stop(EXIT_ERROR, f"error: {error}")
    except KeyboardInterrupt as interrupt:
        return _stop(EXIT_INTERRUPTED, f"interrupted: {interrupt}" if interrupt.args else "interrupted")
    except BrokenPipeError:
        # Python flushes stdout once more at exit; there is nobody left to read it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except _memory_errors():
        return _stop(EXIT_ERROR, "error: out of memory; use fewer samples, a smaller model or another device")


def _memory_errors() -> tuple[type[BaseException], ...]:
    """What says that there is no memory left; torch's own way of saying so only where it has been imported."""
    torch = sys.modules.get("torch")
    return (MemoryError, torch.OutOfMemoryError) if torch else (MemoryError,)


def _check_text(argument: str) -> None:
    """Python reads bytes of an argument that are not UTF-8 as half characters, which could not be printed again."""
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"argument {argument!a:.80} is not UTF-8 text; write it, or rename the file, so") from error


def _stop(code: int, message: str) -> int:
    line = "cedkv: " + " ".join(message.split())
    print(line.encode(errors="backslashreplace").decode(), file=sys.stderr)  # it may name a half character
    return code


__all__ = ["COMMANDS", "build_parser", "load_command", "main"]
