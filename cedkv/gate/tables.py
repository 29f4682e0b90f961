"""Several episodes under one config: a gate for each task, and one table of them all that can be taken up again."""

import csv
import hashlib
import io
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cedkv.config import Config, dump_config
from cedkv.errors import CedKVError, ConfigError
from cedkv.events import Done, Event, Progress, Warned
from cedkv.files import dump_json, write_whole
from cedkv.gate.kinds import KINDS
from cedkv.gate.run import GateReport, iter_gate
from cedkv.harm import YARDSTICKS
from cedkv.ledger import Ledger, Row, row_key
from cedkv.lm import LanguageModel, load_model

COLUMNS = (
    "task",
    "phase",
    "method",
    "slots",
    "accuracy",
    "whole_answer",
    "answer_logprob",
    "kl_to_teacher",
    "off_delta_mean",
    "off_delta_p99",
    "off_delta_max",
    "real_delta_mean",
    "real_delta_p99",
    "real_perplexity_ratio",
    "passed",
    "run_id",
    "config",
    "error",
)


@dataclass
class GateTable:
    """Rows of `COLUMNS`, one per task and method; a task whose gate could not run has one row with its error.

    `off_delta_*` is `Delta` on the stress set, nats. `config` is the hash that `config_hash` gives.
    """

    folder: Path
    tasks: tuple[str, ...]
    phase: int
    rows: list[Row] = field(default_factory=list)

    @property
    def asked(self) -> list[Row]:
        """The rows of the tasks that were asked for; the table may hold others from before."""
        return [row for row in self.rows if row["task"] in self.tasks and row["phase"] == self.phase]

    @property
    def passed(self) -> bool:
        return all(row["passed"] for row in self.asked)

    def put(self, rows: list[Row]) -> None:
        """Take in a task's rows in place of those that it had."""
        judged = {(row["task"], row["phase"]) for row in rows}
        self.rows = [row for row in self.rows if (row["task"], row["phase"]) not in judged] + rows
        self.rows.sort(key=self._place)

    def write(self) -> None:
        write_whole(self.folder / "table.json", dump_json({"columns": COLUMNS, "rows": self.rows}))
        write_whole(self.folder / "table.csv", _as_csv(self.rows))

    def _place(self, row: Row) -> tuple[int, int]:
        asked = row["task"] in self.tasks and row["phase"] == self.phase
        return (0, self.tasks.index(row["task"])) if asked else (1, 0)


def iter_table(
    config: Config,
    tasks: Sequence[str],
    phase: int = 2,
    *,
    lm: LanguageModel | None = None,
    out: str | Path = "runs",
) -> Iterator[Event]:
    """Run the gate on every task and yield what happens; the last event is `Done(GateTable)`.

    `OUT/table.csv` and `OUT/table.json` grow task by task beside the runs' own folders, and `OUT/table.jsonl` keeps
    the rows of every setting. A task that it already holds under the same settings, task file, model and code is not
    run again, so an interrupted table goes on where it stopped. A task that fails with a `CedKVError` becomes a row
    with that error, is warned of, and is tried again next time.

    Parameters
    ----------
    tasks : names of shipped tasks, or paths of task files (ending in `.json`).

    Raises
    ------
    CedKVError
        No task is named, the model cannot be loaded, or the folder cannot be read or written.
    """
    if not tasks:
        raise ConfigError("no task is named; give names of tasks, or 'all'")
    table = GateTable(Path(out), tuple(dict.fromkeys(tasks)), phase)
    ledger = Ledger.beside(table.folder / "table.json")
    kept = {key: entry["rows"] for key, entry in ledger.rows().items() if _is_of_this_version(entry)}
    configs = {task: for_task(config, task) for task in table.tasks}
    if lm is None:
        yield Progress("loading the model", 0, 1)
        lm = load_model(config.run.model.id, config.run.runtime.torch_dtype, config.run.runtime.device)
    model = [lm.fingerprint, str(lm.dtype)]  # another one may have come under the same name
    keys = {task: row_key(config=config_hash(configs[task], phase), model=model) for task in table.tasks}
    done = {task for task, key in keys.items() if key in kept and not any(row["error"] for row in kept[key])}
    for rows in [*kept.values(), *(kept[keys[task]] for task in done)]:
        table.put(rows)
    if table.rows:
        table.write()
    left = [task for task in table.tasks if task not in done]
    for number, task in enumerate(left):
        yield Progress(f"task {task}", number, len(left))
        rows = yield from _task_rows(configs[task], task, phase, lm, out)
        ledger.put(keys[task], {"rows": rows})
        table.put(rows)
        table.write()
    yield Done(table)


def for_task(config: Config, task: str) -> Config:
    """The config with another relation: a shipped task or a task file."""
    place = {"task_file": task} if task.endswith(".json") else {"task": task}
    episode = config.episode.model_copy(update={"task": None, "task_file": None, "demos_file": None, **place})
    return config.model_copy(update={"episode": episode})


def config_hash(config: Config, phase: int) -> str:
    """Names all that a row depends on but the model: settings, what a task file says, phase and this program's code."""
    file = Path(config.episode.task_file or "")
    said = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None  # none: the gate says so
    return row_key(settings=dump_config(config), task_file=said, phase=phase)[:16]


def _task_rows(
    config: Config, task: str, phase: int, lm: LanguageModel | None, out: str | Path
) -> Generator[Event, None, list[Row]]:
    """Run one gate, passing its events on; returns the task's rows."""
    known: Row = {
        "task": task,
        "phase": phase,
        "slots": KINDS[phase].slots(config),
        "config": config_hash(config, phase),
    }
    try:
        rows: list[Row] = []
        for event in iter_gate(config, phase, lm=lm, out=out):
            if isinstance(event, Done):
                rows = list(_method_rows(event.result))
            else:
                yield event
    except CedKVError as error:
        yield Warned(f"task {task}: {error}")
        rows = [{"passed": False, "error": str(error)}]
    return [dict.fromkeys(COLUMNS) | known | row for row in rows]


def _method_rows(report: GateReport) -> Iterator[Row]:
    known = {"passed": report.passed, "run_id": report.data["run_id"]}
    for method, on in report.data["on"].items():
        yield {
            "method": method,
            "accuracy": on["accuracy"],
            "whole_answer": on["whole_answer"],
            "answer_logprob": on["answer_logprob"],
            "kl_to_teacher": on["kl_to_teacher"],
            **_off_figures(report.data["off"][method]),
            **known,
        }
    for name in YARDSTICKS:
        yield {"method": name, **_off_figures(report.data["off"][name]), **known}


def _off_figures(off: dict[str, Any]) -> dict[str, float | None]:
    real = off.get("real_text", {})
    return {
        **{f"off_{name}": off["stress"][name] for name in ("delta_mean", "delta_p99", "delta_max")},
        **{f"real_{name}": real.get(name) for name in ("delta_mean", "delta_p99", "perplexity_ratio")},
    }


def _is_of_this_version(entry: Row) -> bool:
    return all(row.keys() == set(COLUMNS) for row in entry["rows"])


def _as_csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
