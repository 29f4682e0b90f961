"""A run as its folder tells it: the one source of everything a face shows, whoever made the folder."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cedkv.config import Config, load_config
from cedkv.errors import CedKVError
from cedkv.files import dump_json, write_whole
from cedkv.report import Report

if TYPE_CHECKING:
    from cedkv.episodes import Template
    from cedkv.lm import LanguageModel
    from cedkv.state import KVPrefix

_REPORTS = ("report_phase3.json", "report_phase2.json", "report_extract.json")
_NOTE_SIZES = {"name": 80, "tags": 120, "text": 4000}
# What a run with several methods is about, the likeliest first; `state` is a gate's name for a saved state. Any other
# method, of this package or another, comes after them.
_LIKELIEST = ("state", "ced", "select", "free")
# Views that a gate measures its student by.
_MEASURES = {"base", "teacher", "random", "few_shot_random"}


NOTES = "notes.json"


class RunError(CedKVError):
    """A run folder or its files cannot be shown."""


@dataclass
class Run:
    """A finished, cancelled or opened run.

    note : how it came to be here, such as `example` or `opened`; empty for the session's own runs.
    teacher : the demonstrations' whole cache, once somebody has read it.
    """

    folder: Path
    note: str = ""
    teacher: "KVPrefix | None" = None
    _prefixes: dict[str, "KVPrefix"] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.folder.name

    @cached_property
    def report(self) -> Report:
        """The report of the highest phase in the folder.

        Raises
        ------
        RunError
            There is none, or it cannot be read.
        """
        path = next((self.folder / name for name in _REPORTS if (self.folder / name).is_file()), None)
        if path is None:
            raise RunError(f"run {self.id!r} has no report; it ended before anything was measured")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{path.name} of run {self.id!r} cannot be read: {error}") from error

    @cached_property
    def config(self) -> Config:
        return load_config(self.folder / "config.yaml", recorded=True)

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        """The `sample` records of metrics.jsonl; a line cut short by an interruption is left out."""
        path = self.folder / "metrics.jsonl"
        if not path.is_file():
            return []
        records = iter_records(path.read_text(encoding="utf-8"))
        return [record for _, record in records if record.get("type") == "sample"]

    @property
    def judged(self) -> bool:
        """Whether the gate's verdict is in."""
        return bool(self.report.get("gate_b"))

    @property
    def cancelled(self) -> bool:
        """Whether it ended before its time."""
        return not self.report.get("complete", True)

    @property
    def methods(self) -> list[str]:
        """The methods whose state files are in the folder, the student first."""
        names = sorted(path.stem for path in (self.folder / "artifacts").glob("*.safetensors"))
        return sorted(names, key=lambda name: name != self.student)

    @property
    def student(self) -> str:
        """The method that the run is about: what the gate judged, else what was extracted."""
        present = {path.stem for path in (self.folder / "artifacts").glob("*.safetensors")}
        if self.report.get("method") in present:
            return self.report["method"]
        # Of a judged file the state itself, not the baselines beside it.
        return "state" if "state" in self.report and "state" in present else student_among(present)

    @property
    def made_by(self) -> str:
        """The method that made the student's state, also where that came from a file."""
        state = self.report.get("state")
        return (state and state.get("method")) or self.student

    @property
    def judged_view(self) -> str:
        """The view whose numbers the report's verdict is about, also where its state is not in the folder."""
        views = self.report.get("on", {})
        return next((name for name in ("state", self.student) if name in views), judged_among(views))

    def template(self, lm: "LanguageModel") -> "Template":
        """As the run's queries were cut from it; reports of before that was noted had no opening."""
        from cedkv.episodes import noted_template

        return noted_template(lm, self.report["episode"])

    @property
    def notes(self) -> dict[str, str]:
        """What its user calls it and wrote about it: `name`, `tags`, `text`, each maybe empty."""
        path = self.folder / NOTES
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return {part: str(kept.get(part, "")) for part in _NOTE_SIZES}

    def note_down(self, **notes: str) -> None:
        """Keep a name, tags and notes beside the run's files; empty ones are none.

        Raises
        ------
        RunError
            One is too long.
        """
        for part, most in _NOTE_SIZES.items():
            if len(notes.get(part, "")) > most:
                raise RunError(f"{len(notes[part])} characters of {part}: a run keeps {most}; write less")
        write_whole(self.folder / NOTES, dump_json({part: text.strip() for part, text in notes.items()}))

    def prefix(self, method: str) -> "KVPrefix":
        """The state of one method, read once.

        Raises
        ------
        RunError
            The run has no state of this method.
        StateError
            The file is damaged.
        """
        if method not in self._prefixes:
            from cedkv.state import KVPrefix

            if method not in self.methods:
                raise RunError(
                    f"run {self.id!r} has no state of {method!r}; it has {', '.join(self.methods) or 'none'}"
                )
            self._prefixes[method] = KVPrefix.load(self.state_file(method))
        return self._prefixes[method]

    def state_file(self, method: str) -> Path:
        return self.folder / "artifacts" / f"{method}.safetensors"

    def selection(self) -> dict[str, Any] | None:
        """Select-KV's chosen spans with their scores, where the method ran."""
        path = next((self.folder / "artifacts").glob("phase*_selection.json"), None)
        return json.loads(path.read_text(encoding="utf-8")) if path else None


def student_among(methods: Collection[str]) -> str:
    """The method that a run is about where its report does not say; empty where there is none."""
    return judged_among(methods) or min(methods, default="")


def judged_among(views: Collection[str]) -> str:
    """The view that a gate is about; empty where nothing is there but what it measures by."""
    return next((name for name in _LIKELIEST if name in views), min(set(views) - _MEASURES, default=""))


def iter_records(text: str) -> Iterator[tuple[int, Any]]:
    """The records of metrics.jsonl with their lines, from 1; what is not JSON, as a line cut short, is left out."""
    for line, record in enumerate(text.split("\n"), start=1):
        try:
            yield line, json.loads(record)
        except (ValueError, RecursionError):
            continue
