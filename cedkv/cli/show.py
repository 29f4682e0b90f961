"""What the commands print: progress on stderr, tables on stdout."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from cedkv import events
from cedkv.events import Event, Noted, Progress, StepTrace, TrainingStep, Warned

_REDRAW_SECONDS = 0.1


class ProgressLine:
    """One line that is redrawn on a terminal; elsewhere a line whenever a stage begins."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.stage = ""
        self.drawn = 0.0

    def show(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.close()
            print(f"warning: {event.message}", file=sys.stderr)
        elif isinstance(event, Noted):
            self.close()
            print(event.message, file=sys.stderr)
        elif isinstance(event, Progress):
            self._stage(event.stage, event.done, event.total)
        elif isinstance(event, StepTrace):
            self._stage(f"training {event.method}", event.step, event.steps, f"loss_on {event.loss_on:.3f}")
        elif isinstance(event, TrainingStep):
            self._stage(f"training {event.method}", event.step + 1, event.steps, f"loss {event.loss:.3f}")

    def _stage(self, stage: str, done: int, total: int, more: str = "") -> None:
        begins, self.stage = stage != self.stage, stage
        now = time.monotonic()
        if self.terminal and (begins or done == total or now - self.drawn > _REDRAW_SECONDS):
            self.drawn = now
            print(f"\r\x1b[K{stage} {done}/{total} {more}".rstrip(), end="", file=sys.stderr, flush=True)
        elif begins and not self.terminal:
            print(stage, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clear the redrawn line, so that what follows starts at the margin."""
        if self.terminal and self.stage:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def drain(work: Iterator[Event], progress: ProgressLine) -> Any:
    """Show what happens and return the result of the work; see `cedkv.events.drain`."""
    try:
        return events.drain(work, progress.show)
    finally:
        progress.close()


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns as wide as their widest cell; those named in `right` are flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def quoted(value: Any) -> str:
    """A value as JSON on one line."""
    return printable(json.dumps(value, ensure_ascii=False))


def printable(text: str) -> str:
    """A text with nothing a terminal would obey: demonstrations may hold anything."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def kib(size: int) -> str:
    return f"{size / 1024:,.0f} KiB"
