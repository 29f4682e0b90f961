"""Files that appear whole or not at all."""

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


def dump_json(value: Any) -> str:
    """Readable, strict JSON: a non-finite number is an error, not a token other readers refuse."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
