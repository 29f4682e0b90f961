"""A sweep as it runs: cells to workers, outcomes to the ledger, tables at the end however it ends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from cedkv.config import dump_config
from cedkv.errors import ConfigError, ModelError, OutputError
from cedkv.events import Done, Event, Noted, Opened, Progress, Warned
from cedkv.extras import how_to_install
from cedkv.files import dump_json, whole_file, write_whole
from cedkv.ledger import Ledger
from cedkv.provenance import library_versions
from cedkv.report import RunFolder, new_run_id
from cedkv.sweep.cell import Outcome, Workplace
from cedkv.sweep.executors import EXECUTORS, Resources, Run
from cedkv.sweep.plan import Cell, Plan
from cedkv.sweep.plot import frontier_html, frontier_svg
from cedkv.sweep.tables import Row, as_csv, points


@dataclass(frozen=True)
class Sweep:
    """The rows of a plan's cells, in its order, and the folder that all files are in."""

    folder: Path
    rows: list[Row]

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row["error"]]


def iter_sweep(plan: Plan, out: str | Path, on: str = "inline", resume: bool = False) -> Iterator[Event]:
    """Judge every cell of a plan and yield what happens; the last event is `Done(Sweep)`.

    `OUT/rows.jsonl` has each row as soon as it is known, `OUT/runs` the states; only this process writes. `sweep.csv`,
    `sweep.json`, `frontier.svg` and `frontier.html` are written when it ends, however it ends.

    Parameters
    ----------
    on : one of `EXECUTORS`.
    resume : go on with a folder that holds rows. Of cells with the same settings, task file, model and code those
        without an error stay; the others are judged. Without it such a folder is refused, so nothing is ever lost.

    Raises
    ------
    CedKVError
        The folder holds rows already, or cannot be written; a model cannot be had; an extra is not installed.
    """
    if on not in EXECUTORS:
        raise ConfigError(f"on = {on!r} is no place where cells are judged; choose from {', '.join(EXECUTORS)}")
    folder, ledger = Path(out), Ledger(Path(out) / "rows.jsonl")
    there = ledger.rows()
    if there and not resume:
        raise OutputError(f"{str(out)!r} holds {len(there)} rows of a sweep; add --resume to go on, or another --out")
    gpus = int(any(cell.model[2] == "cuda" for cell in plan.cells))
    with EXECUTORS[on](Resources(plan.sweep.workers, plan.sweep.threads, gpus)) as run:
        yield Opened(folder, ("loading the model", "judging cells"))
        yield Progress("loading the model", 0, 1)
        cells = _keyed(plan.cells, run)
        done = {cell.key: row for cell in cells if (row := there.get(cell.key)) and not row["error"]}
        left = [cell for cell in cells if cell.key not in done]
        if done:
            yield Noted(f"{len(done)} of {len(cells)} cells are there already")
        try:
            yield Progress("judging cells", 0, len(left))
            for number, (cell, outcome) in enumerate(run(Workplace.judge, left), start=1):
                row = done[cell.key] = cast(dict, _row(cell, outcome, folder))
                ledger.put(cell.key, row)
                if row["error"]:
                    yield Warned(f"{cell}: {row['error']}")
                yield Progress("judging cells", number, len(left))
        finally:
            sweep = Sweep(folder, [cast(Row, done[cell.key]) for cell in cells if cell.key in done])
            _write(sweep, plan)
    if not _plotly():
        yield Noted(f"frontier.html is left out: plotly is not installed; run: {how_to_install('sweep')}")
    yield Done(sweep)


def _keyed(cells: Sequence[Cell], run: Run) -> list[Cell]:
    """The cells with their keys, for which a worker says which model each name is."""
    asked = {cell.model: cell.config for cell in cells}
    found: dict[tuple, str] = {}
    for config, outcome in run(Workplace.fingerprint, list(asked.values())):
        if "error" in outcome:
            raise ModelError(outcome["error"])
        found |= {model: outcome["fingerprint"] for model, same in asked.items() if same is config}
    return [cell.keyed(found[cell.model]) for cell in cells]


def _row(cell: Cell, outcome: Outcome, folder: Path) -> Row:
    return {
        "task": cell.task,
        "seed": cell.seed,
        "method": cell.method,
        "slots": cell.slots,
        "settings": cell.settings,
        "beside": cell.beside,
        "model": cell.config.run.model.id,
        "figures": outcome.get("figures", {}),
        "seconds": outcome.get("seconds"),
        "run": _write_run(cell, outcome["run"], folder) if outcome.get("run") else None,
        "worker": outcome.get("worker"),
        "error": outcome.get("error"),
    }


def _write_run(cell: Cell, made: Outcome, folder: Path) -> str:
    """The folder of a run that the inspector opens; returns its name."""
    name = new_run_id(Path(cell.task).stem, 0, cell.slots or 0).replace("phase0", cell.method)
    run = RunFolder(folder / "runs", name)
    run.write("config.yaml", dump_config(cell.config))
    with whole_file(run.path / "artifacts" / f"{cell.method}.safetensors") as file:
        file.write_bytes(made["state"])
    run.write("report_extract.json", dump_json({**made["report"], "run_id": name}))
    return name


def _write(sweep: Sweep, plan: Plan) -> None:
    found = points(sweep.rows)
    told = {
        "sweep": plan.sweep.model_dump(mode="json"),
        "points": found,
        "rows": sweep.rows,
        "versions": library_versions(),
    }
    write_whole(sweep.folder / "sweep.json", dump_json(told))
    write_whole(sweep.folder / "sweep.csv", as_csv(sweep.rows))
    write_whole(sweep.folder / "frontier.svg", frontier_svg(found))
    if _plotly():
        write_whole(sweep.folder / "frontier.html", frontier_html(found))


def _plotly() -> bool:
    return find_spec("plotly") is not None
