"""Files that appear whole or not at all, and JSON that can be written down again."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from cedkv.errors import OutputError


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all, even if the process dies.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"output {str(path)!r} cannot be written: {error.strerror}; choose another folder") from error


def parse_json(text: str | bytes) -> Any:
    """What a JSON document says. Raises `ValueError` or `RecursionError` where that could not be written down again."""
    value = json.loads(text)
    check_writable_again(value)
    return value


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
