"""Files that appear whole or not at all, and JSON that can be written down again."""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from cedkv.errors import OutputError, StateError

_REMEDY = "choose another folder"
Read = TypeVar("Read")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; after the block the file takes its place, even if the process dies meanwhile.

    Raises
    ------
    OutputError
        The folder or the file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield unfinished
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, once: bool = False, remedy: str = _REMEDY) -> Iterator[Path]:
    """A folder beside `path` to build in; after the block it takes its place, also where another one was.

    once : one that another process has put there meanwhile stays. remedy : what a user can do when it fails.

    Raises
    ------
    OutputError
        A folder or a file in it cannot be written.
    """
    with _named(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by mkdtemp, whose folders none but their owner may read; a model may be served by another user.
        building = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        building.mkdir()
        try:
            yield building
            if once and path.is_dir():
                return
            shutil.rmtree(path, ignore_errors=True)
            os.replace(building, path)
        finally:
            shutil.rmtree(building, ignore_errors=True)


@contextmanager
def _named(path: Path, remedy: str = _REMEDY) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"output {str(path)!r} cannot be written: {error.strerror or error}; {remedy}") from error


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def parse_json(text: str | bytes) -> Any:
    """What a JSON document says. Raises `ValueError` or `RecursionError` where that could not be written down again."""
    value = json.loads(text)
    check_writable_again(value)
    return value


def read_written(path: str | Path, name: str, what: str, read: Callable[[Any], Read]) -> Read:
    """What `read` makes of a JSON file that this package has written, from anywhere.

    Parameters
    ----------
    name : what to call the file in errors.
    what : which file it should be, such as `sweep.json`.

    Raises
    ------
    OutputError
        It cannot be read, or is no such file; the place that is wrong is named where it is known.
    """
    try:
        return read(parse_json(Path(path).read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        at = "; at " + ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else ""
        raise OutputError(f"{name!r} is no {what} that cedkv has written{at}; open one") from error


def check_state_opens(path: str | Path) -> None:
    """Refuse what is no state file at first sight: it can be told without torch, which takes seconds to import.

    Raises
    ------
    StateError
        There is no such file, it cannot be opened, or it does not begin as a safetensors file does: with eight bytes of
        length and a JSON object.
    """
    try:
        with Path(path).open("rb") as file:
            begin = file.read(9)
    except OSError as error:
        raise StateError(f"state file {str(path)!r} cannot be read: {error}") from error
    if len(begin) == 9 and begin[8:] != b"{":
        raise StateError(
            f"state file {str(path)!r} is no safetensors file: its 'header' is missing; give a file that "
            "`cedkv extract` has written"
        )


def check_writable_again(value: Any) -> None:
    """Refuse what parsers of JSON and YAML let through and nothing can print.

    Raises
    ------
    ValueError
        A text holds half of a character (a lone surrogate), an integer thousands of digits, or a value itself.
    """
    try:
        json.dumps(value, ensure_ascii=False, default=str, skipkeys=True).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object[error.start]!a} is half of a character; write the whole one") from error
    except ValueError as error:
        raise ValueError("an integer has thousands of digits, or a value holds itself; write a plain one") from error


def dump_json(value: Any) -> str:
    """Readable, strict JSON: a non-finite number is an error, not a token other readers refuse."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
