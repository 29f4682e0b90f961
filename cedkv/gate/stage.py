"""What the stages of one gate run share: its report as it grows, its folder, and what was made so far."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cedkv.config import Config
from cedkv.evaluation import Judge, OnView
from cedkv.events import Sample, timed
from cedkv.files import dump_json
from cedkv.gate.kinds import Kind
from cedkv.methods import Extraction, Workbench
from cedkv.report import Report, RunFolder
from cedkv.state import KVPrefix


@dataclass
class GateReport:
    """The report as it grows; `data` is what the JSON file holds (contract: the report in docs/report.md)."""

    folder: Path
    data: Report

    @property
    def passed(self) -> bool:
        return self.data["passed"]

    def add(self, fields: dict[str, Any]) -> None:
        """Put in what only one kind of gate says: its type knows the fields of all kinds."""
        cast(dict[str, Any], self.data).update(fields)


@dataclass
class GateRun:
    """What the stages of one run share."""

    kind: Kind
    bench: Workbench
    judge: Judge
    folder: RunFolder
    report: GateReport
    extractions: dict[str, Extraction] = field(default_factory=dict)
    views: dict[str, OnView] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        return self.bench.config

    @property
    def data(self) -> Report:
        return self.report.data

    def part(self, name: str):
        """Count a block's wall-clock seconds under `timing.NAME`."""
        return timed(self.data["timing"], name)

    def save(self, complete: bool) -> None:
        """Write the report as far as it is; a run that is cut short leaves the last one, marked incomplete."""
        self.data["complete"] = complete
        self.folder.write(f"report_{self.kind.label}.json", dump_json(self.data))

    def save_state(self, name: str, prefix: KVPrefix) -> None:
        prefix.save(self.folder.path / "artifacts" / f"{name}.safetensors")

    def write_artifact(self, name: str, artifact: Any) -> None:
        self.folder.write(f"artifacts/{self.kind.label}_{name}.json", dump_json(artifact))

    def write_sample(self, values: dict[str, Any]) -> Sample:
        """A record of one judged thing, for the metrics file and for whoever listens."""
        self.folder.append_metric({"type": "sample", **values})
        return Sample(values)
