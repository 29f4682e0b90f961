"""What a run leaves behind: a folder whose files appear whole or not at all."""

import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cedkv.errors import OutputError
from cedkv.version import __version__

_REPORTED_PACKAGES = ("cedkv", "torch", "transformers", "tokenizers", "safetensors", "numpy")


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


def library_versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    packages = {name: version(name) for name in _REPORTED_PACKAGES if name != "cedkv"}
    return {"python": platform.python_version(), "cedkv": __version__, **packages}


class RunFolder:
    """The folder of one run. `metrics.jsonl` grows line by line, so an interrupted run stays readable."""

    def __init__(self, root: str | Path, run_id: str) -> None:
        self.path = Path(root) / run_id
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            raise OutputError(
                f"output folder {str(self.path)!r} cannot be made: {error.strerror}; choose another --out"
            ) from error

    def write(self, name: str, text: str) -> None:
        write_whole(self.path / name, text)

    def append_metric(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise OutputError(f"output {str(self.path)!r} cannot be written: {error.strerror}") from error


def new_run_id(task: str, phase: int, slots: int) -> str:
    """Readable, sortable and unique enough: time to the microsecond, the task and the size."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in task)[:40]
    return f"{stamp}-phase{phase}-{name}-s{slots}"


@contextmanager
def timed(timing: dict[str, float], part: str) -> Iterator[None]:
    """Add the wall-clock seconds of a block to `timing[part]`."""
    started = datetime.now(UTC)
    try:
        yield
    finally:
        timing[part] = timing.get(part, 0.0) + (datetime.now(UTC) - started).total_seconds()
