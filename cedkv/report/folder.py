"""The folder of a run: files that appear whole or not at all, and one that grows line by line."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cedkv.errors import OutputError
from cedkv.files import write_whole


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
