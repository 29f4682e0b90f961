"""The command line, one file per command. A new command is a file and a line in `COMMANDS`.

Exit codes: 0 done (the gate passed), 1 the gate failed, 2 an error, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol

import torch

from cedkv.cli import app, bench, cache, diagnose, documents, extract, gate, inspect, pairs, query, serve, sweep, train
from cedkv.errors import CedKVError, ConfigError


class Command(Protocol):
    """What a command's module offers. Its docstring's first line is the command's help."""

    __doc__: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit code."""


COMMANDS: dict[str, Command] = {
    "gate": gate,
    "extract": extract,
    "query": query,
    "inspect": inspect,
    "cache": cache,
    "train": train,
    "pairs": pairs,
    "documents": documents,
    "bench": bench,
    "diagnose": diagnose,
    "sweep": sweep,
    "app": app,
    "serve": serve,
}
EXIT_ERROR = 2
# As shells report a process that SIGINT or SIGPIPE ended.
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are errors like any other: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="cedkv", description="Demonstrations as a KV prefix of a few readable slots.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        about = command.__doc__.splitlines()[0]
        command.add_arguments(commands.add_parser(name, help=about, description=about, allow_abbrev=False))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error a user can cause is one line on stderr."""
    try:
        given = sys.argv[1:] if argv is None else list(argv)
        for argument in given:
            _check_text(argument)
        args = build_parser().parse_args(given)
        code = COMMANDS[args.command].run(args)
        sys.stdout.flush()
        return code
    except CedKVError as error:
        return _stop(EXIT_ERROR, f"error: {error}")
    except (MemoryError, torch.OutOfMemoryError):
        return _stop(EXIT_ERROR, "error: out of memory; use fewer samples, a smaller model or another device")
    except KeyboardInterrupt as interrupt:
        return _stop(EXIT_INTERRUPTED, f"interrupted: {interrupt}" if interrupt.args else "interrupted")
    except BrokenPipeError:
        # Python flushes stdout once more at exit; there is nobody left to read it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


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


__all__ = ["COMMANDS", "build_parser", "main"]
