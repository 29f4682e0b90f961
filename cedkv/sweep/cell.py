"""Judging cells in one process, which loads their model once. What comes back is plain data."""

import logging
import os
import platform
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cedkv.config import Config
from cedkv.errors import CedKVError, ConfigError
from cedkv.lm import LanguageModel
from cedkv.provenance import code_fingerprint
from cedkv.session.models import ModelShelf
from cedkv.session.reports import report_of_extraction
from cedkv.state import KVPrefix
from cedkv.sweep.judging import TaskBench
from cedkv.sweep.plan import Cell

# Of a cell: `figures`, `seconds` and maybe `run`, or `error`, why there are none.
Outcome = dict[str, Any]


class Workplace:
    """The model and the references at hand; one in each process that judges."""

    def __init__(self) -> None:
        self._models = ModelShelf()
        self._bench: TaskBench | None = None

    def fingerprint(self, config: Config) -> Outcome:
        """Which model a config names, or why it cannot be had."""
        try:
            return {"fingerprint": self._models.get(config).fingerprint}
        except CedKVError as error:
            return {"error": str(error)}

    def judge(self, cell: Cell) -> Outcome:
        """The outcome of one cell; whatever goes wrong is its error and ends nothing else."""
        try:
            outcome = self._judged(cell)
        except CedKVError as error:
            outcome = {"error": str(error)}
        except Exception as error:  # of any library, for any reason: the other cells are judged all the same
            logging.getLogger(__name__).debug("cell %s", cell, exc_info=True)
            outcome = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        return {**outcome, "worker": f"{platform.node()}:{os.getpid()}"}

    def _judged(self, cell: Cell) -> Outcome:
        lm = self._models.get(cell.config)
        if (lm.fingerprint, code_fingerprint()) != (cell.fingerprint, cell.code):
            raise ConfigError("model or code differ from where the sweep began; install the same on every machine")
        bench, started = self._bench_of(lm, cell), time.perf_counter()
        if cell.slots is None:
            prefix, made, episode = bench.reference(cell.method), None, bench.episode
        else:
            made, episode = bench.extract(cell.method, cell.slots, cell.config)
            prefix = made.prefix
        seconds = time.perf_counter() - started
        run = None
        if made and made.prefix.slots:  # few-shot has none where no demonstration fits
            report = report_of_extraction(lm, episode, cell.config, made, "", seconds)
            run = {"report": report, "state": _as_bytes(made.prefix)}
        return {"figures": bench.figures([prefix]), "seconds": seconds, "run": run}

    def _bench_of(self, lm: LanguageModel, cell: Cell) -> TaskBench:
        """The references of the cell before, where they are the same."""
        if self._bench is None or self._bench.lm is not lm or self._bench.config != cell.references:
            self._bench = TaskBench(lm, cell.references)
        return self._bench


def _as_bytes(prefix: KVPrefix) -> bytes:
    """The state file."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "state.safetensors"
        prefix.save(file)
        return file.read_bytes()
