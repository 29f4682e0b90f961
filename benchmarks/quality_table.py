"""How good the slots are: accuracy, distance to the teacher and harm of every method, task by task.

    python benchmarks/quality_table.py --out runs/quality.json

judges every shipped task, and those in ../shared/data/function_vectors where that folder is there, whose teacher
reaches 0.7. The JSON file grows row by row and the same command goes on where it was interrupted. The Markdown table
of means, and of first tokens and whole answers per task, is printed and written beside it.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import TEACHER_MIN, markdown_table, run
from cedkv.config import Config, load_config
from cedkv.episodes import task_names
from cedkv.errors import CedKVError
from cedkv.files import dump_json, write_whole
from cedkv.gate.tables import config_hash, for_task
from cedkv.ledger import Ledger, Row
from cedkv.lm import LanguageModel, load_model
from cedkv.provenance import library_versions
from cedkv.state import KVPrefix
from cedkv.sweep.judging import FIGURES, REFERENCES, TaskBench

FUNCTION_VECTORS = Path(__file__).resolve().parents[2] / "shared" / "data" / "function_vectors"


@dataclass(frozen=True)
class View:
    """What is judged: a method or a reference, what it changes in the settings, and at which numbers of slots."""

    method: str
    overrides: tuple[str, ...] = ()
    mixture: str | None = None
    slots: tuple[int, ...] = (2, 4, 8, 16)


STUDENTS: dict[str, View] = {
    "ced": View("ced"),
    "ced, fast": View("ced", mixture="fast", slots=(2, 4, 8)),
    "ced, thorough": View("ced", mixture="thorough", slots=(2, 4, 8)),
    "ced, no outputs": View("ced", mixture="no_outputs", slots=(8,)),
    "ced, bare demos": View("ced", overrides=("episode.on_source=generated",), slots=(8,)),
    "free": View("free", slots=(2, 8)),
    "few_shot": View("few_shot"),
    "select": View("select"),
    "chunked": View("chunked", slots=(2, 4, 8, 12, 16)),
    "random": View("random"),
}
# What training from chunks may change, one freedom more or less than by default. Judged only when asked for.
FREEDOMS: dict[str, View] = {
    f"ced, {name}": View("ced", overrides=overrides, slots=(8,))
    for name, overrides in {
        "weight alone": ("phase3.least={gain: false, within_chunks: none}",),
        "gain alone": ("phase3.least={weight: false, within_chunks: none}",),
        "chunks' means": ("phase3.least.within_chunks=none",),
        "mixtures in all chunks": ("phase3.least.within_chunks=all",),
        "numbers per layer": ("phase3.least.shared=heads",),
        "numbers per slot": ("phase3.least.shared=layers",),
        "pure sink": ("phase3.least.pure_sink=true",),
        "priced counts": ("phase3.least.price=5",),
        "selective weight": ("phase3.least.selective=true",),
        "values of rank 2": ("phase3.least.value_rank=2",),
        "upper half of layers": ("phase3.layer_scope.injection=last_15",),
    }.items()
}
REFERENCE_VIEWS = {name: View(name) for name in REFERENCES}


class Table:
    """The rows of one call, on the disk as soon as they are known. A row is found again by all it depends on."""

    def __init__(self, path: Path) -> None:
        self.path, self.ledger = path, Ledger.beside(path)
        self.kept = self.ledger.rows()
        self.rows: list[Row] = []  # rows of other calls may be of other settings, and no mean is of both

    def find(self, key: Row) -> Row | None:
        row = self.kept.get(_name(key))
        if row is not None:
            self.rows.append(row)
        return row

    def add(self, key: Row, figures: Row) -> Row:
        row = self.kept[_name(key)] = {**key, **figures}
        self.ledger.put(_name(key), row)
        self.rows.append(row)
        self.write()
        return row

    def write(self) -> None:
        written = {"rows": self.rows, "means": means(self.rows), "versions": library_versions()}
        write_whole(self.path, dump_json(written))


def _name(key: Row) -> str:
    return json.dumps(key, sort_keys=True)


def judged(bench: TaskBench, method: str, slots: int, config: Config) -> Row:
    """The figures of a method, or of a reference, with the seconds its prefix took."""
    started = time.perf_counter()
    prefixes: list[KVPrefix | None]
    if method in REFERENCES:
        prefixes = [bench.reference(method)]
    elif method == "random":
        prefixes = [*bench.random(slots, config.phase2.eval.n_random_trials)]
    else:
        prefixes = [bench.extract(method, slots, config)[0].prefix]
    return {"seconds": time.perf_counter() - started, **bench.figures(prefixes)}


def measure(lm: LanguageModel, table: Table, task: str, seed: int, args: argparse.Namespace) -> Iterator[Row]:
    """The missing rows of one task and seed: references first, and students only of a capable teacher."""

    def config_of(view: View) -> Config:
        overrides = [*args.set, f"run.seed={seed}", *view.overrides]
        return for_task(load_config(args.config, overrides, view.mixture or args.mixture), task)

    bench, model = TaskBench(lm, config_of(REFERENCE_VIEWS["teacher"])), {"model": lm.fingerprint}
    references = [(name, 0, view) for name, view in REFERENCE_VIEWS.items()]
    chosen = {name: (STUDENTS | FREEDOMS)[name] for name in args.views}
    students = [(name, slots, view) for slots in args.slots for name, view in chosen.items() if slots in view.slots]
    for name, slots, view in [*references, *students]:
        config = config_of(view)
        key = {"task": task, "seed": seed, "slots": slots, "view": name, "config": config_hash(config, 3)} | model
        row = table.find(key)
        if row is None:
            row = table.add(key, judged(bench, view.method, slots, config))
            yield row
        if name == "teacher" and row["accuracy"] < args.teacher_min:
            return


def capable(rows: Sequence[Row], teacher_min: float = TEACHER_MIN) -> list[Row]:
    """The rows of tasks whose teacher is worth compressing."""
    able = {(row["task"], row["seed"]) for row in rows if row["view"] == "teacher" and row["accuracy"] >= teacher_min}
    return [row for row in rows if (row["task"], row["seed"]) in able]


def means(rows: Sequence[Row]) -> list[Row]:
    """Per number of slots and view the means over tasks and seeds, beside the teacher's on the same ones."""
    rows = capable(rows)
    teachers = {(row["task"], row["seed"]): row for row in rows if row["view"] == "teacher"}
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["slots"], row["view"]), []).append(row)
    found = []
    for (slots, view), group in sorted(groups.items(), key=lambda item: item[0][0]):
        beside = [teachers[row["task"], row["seed"]] for row in group]
        own = {name: sum(row[name] for row in group) / len(group) for name in FIGURES}
        teacher = {
            name: sum(row[name] for row in beside) / len(beside) for name in ("accuracy", "whole_answer", "off_p99")
        }
        found.append(
            {
                "slots": slots,
                "view": view,
                "episodes": len(group),
                **own,
                "teacher_share": own["accuracy"] / teacher["accuracy"],
                "teacher_whole": teacher["whole_answer"],
                "teacher_off_p99": teacher["off_p99"],
            }
        )
    return found


def markdown(rows: Sequence[Row]) -> str:
    """The means, then every task's first tokens and whole answers."""
    columns = (
        "view", "slots", "first token", "of the teacher's", "whole answer (teacher's)", "its log-prob, nats",
        "KL to teacher", "stress p99 (teacher's)", "episodes",
    )  # fmt: skip
    cells = [
        (
            row["view"],
            row["slots"] or "",
            f"{row['accuracy']:.3f}",
            f"{row['teacher_share']:.3f}",
            f"{row['whole_answer']:.3f} ({row['teacher_whole']:.3f})",
            f"{row['answer_logprob']:.2f}",
            f"{row['kl_to_teacher']:.3f}",
            f"{row['off_p99']:.2f} ({row['teacher_off_p99']:.2f})",
            row["episodes"],
        )
        for row in means(rows)
    ]
    return markdown_table(columns, cells, words=1) + "\n\n" + _by_task(capable(rows))


def _by_task(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys((row["view"], row["slots"]) for row in rows if row["view"] != "base"))
    titles = [view if not slots else f"{view} S={slots}" for view, slots in columns]
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        cells = []
        for view, slots in columns:
            mine = [row for row in rows if (row["task"], row["view"], row["slots"]) == (task, view, slots)]
            right = [sum(row[name] for row in mine) / len(mine) for name in ("accuracy", "whole_answer") if mine]
            cells.append(" / ".join(f"{value:.2f}" for value in right))
        name = f"{Path(task).stem} (function-vectors)" if task.endswith(".json") else task
        lines.append((name, *cells))
    return markdown_table(("task", *titles), lines, words=1)


def parse_arguments() -> argparse.Namespace:
    files = [str(file) for file in sorted(FUNCTION_VECTORS.glob("*.json"))]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=[*task_names(), *files], metavar="NAME", help="or a .json file")
    sizes = sorted({slots for view in STUDENTS.values() for slots in view.slots})
    parser.add_argument("--slots", nargs="+", type=int, choices=sizes, default=list(sizes), metavar="S")
    parser.add_argument("--views", nargs="+", choices=[*STUDENTS, *FREEDOMS], default=list(STUDENTS), metavar="VIEW")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    parser.add_argument("--teacher-min", type=float, default=TEACHER_MIN, metavar="SHARE")
    parser.add_argument("--config", metavar="FILE")
    parser.add_argument("--mixture", metavar="NAME")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--out", type=Path, default=Path("runs/quality.json"), metavar="FILE")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    config = load_config(args.config, args.set, args.mixture)
    runtime = config.run.runtime
    lm = load_model(config.run.model.id, runtime.torch_dtype, runtime.device)
    table, failed = Table(args.out), []
    for task in args.tasks:
        try:
            for row in (row for seed in args.seeds for row in measure(lm, table, task, seed, args)):
                right = f"first token {row['accuracy']:.2f}  whole answer {row['whole_answer']:.2f}"
                told = f"{right}  KL {row['kl_to_teacher']:.3f}  p99 {row['off_p99']:.2f}"
                print(f"{task} {row['view']} S={row['slots']} seed {row['seed']}: {told}", file=sys.stderr)
        except CedKVError as error:
            failed.append(f"{task}: {error}")
            print(f"quality_table: {failed[-1]}", file=sys.stderr)
    table.write()
    shown = markdown(table.rows)
    write_whole(args.out.with_suffix(".md"), shown + "\n")
    print(shown)
    if failed:
        sys.exit(f"quality_table: {len(failed)} of {len(args.tasks)} tasks could not be judged")


if __name__ == "__main__":
    run(main)
