"""What each precision of a state costs: file size, accuracy, KL to the teacher and effect on OFF texts.

    python benchmarks/precision_table.py --out runs/precision_table.json

takes one state per shipped task whose teacher reaches 0.7 from the extraction cache, or makes it, and judges it in
every precision. The JSON file, and a CSV file beside it, grow task by task, and the same command goes on where it was
interrupted. A Markdown table with the means is printed, and under it whether int8 costs as little as claimed.
"""

import argparse
import csv
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import TEACHER_MIN, add_student_options, load, markdown_table, options, run
from cedkv.cli.show import ProgressLine, drain
from cedkv.config import Config, load_config
from cedkv.episodes import episode_from_config, task_names
from cedkv.errors import CedKVError
from cedkv.evaluation import Judge
from cedkv.files import dump_json, write_whole
from cedkv.gate.tables import config_hash, for_task
from cedkv.ledger import Ledger, Row
from cedkv.lm import LanguageModel
from cedkv.methods import Workbench
from cedkv.methods.cached import extraction_cache, iter_cached_extract
from cedkv.provenance import library_versions
from cedkv.state import PRECISIONS, KVPrefix
from cedkv.state.cache import StateCache

SIZES = ("kv_bytes", "file_bytes")
SCORES = ("accuracy", "whole_answer", "kl_to_teacher", "off_delta_p99")
COLUMNS = ("task", "precision", *SIZES, *SCORES)
# What int8 may cost beside fp32, on the mean of the tasks: accuracy, and a share of the OFF p99.
ACCURACY_COST = 0.01
P99_COST = 0.10


class PrecisionTable:
    """One entry per task of one call, on the disk as soon as it is known: `task`, `key`, `teacher_accuracy` and `rows`.

    `key` names all that the entry depends on. A task whose teacher is too weak has no rows.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.ledger = path, Ledger.beside(path)
        self.kept = self.ledger.rows()
        self.entries: list[Row] = []  # entries of other calls may be of other settings, and no mean is of both

    def holds(self, task: str, key: str) -> bool:
        """Whether there is such an entry, which then joins the table."""
        kept = self.kept.get(f"{task} {key}")
        if kept is not None:
            self.entries.append(kept)
        return kept is not None

    @property
    def rows(self) -> list[Row]:
        return [row for entry in self.entries for row in entry["rows"]]

    def put(self, entry: Row) -> None:
        """Take in a task that was judged, and write both files."""
        self.ledger.put(f"{entry['task']} {entry['key']}", entry)
        self.entries.append(entry)
        self.write()

    def write(self) -> None:
        found = means(self.rows)
        result = {"tasks": self.entries, "means": found, "claims": claims(found), "versions": library_versions()}
        write_whole(self.path, dump_json(result))
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*self.rows, *found])
        write_whole(self.path.with_suffix(".csv"), text.getvalue())


def measure(lm: LanguageModel, cache: StateCache, task: str, config: Config, args: argparse.Namespace) -> Row:
    """One task's teacher, and its rows if that is a capable one."""
    episode = episode_from_config(lm, config)
    teacher = Workbench(lm, episode, config).teacher
    judge = Judge(lm, episode, teacher, {"stress": episode.off_set("stress", config.phase3.off_data.stress_samples)})
    rows: list[Row] = []
    if judge.teacher_on.accuracy >= args.teacher_min:
        events = iter_cached_extract(cache, lm, episode, args.method, args.slots, config)
        rows = [{"task": task, **row} for row in _rows(judge, drain(events, ProgressLine()).prefix)]
    return {"task": task, "teacher_accuracy": judge.teacher_on.accuracy, "rows": rows}


def _rows(judge: Judge, state: KVPrefix) -> Iterator[Row]:
    """A row for every precision; the state has been through its file."""
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            path = Path(folder) / precision
            state.save(path, precision)
            read = KVPrefix.load(path, judge.lm.fingerprint)
            on = judge.scores(read)
            off = judge.off_scores(judge.delta_off(read, "stress"), "stress")
            yield {
                "precision": precision,
                "kv_bytes": kv_bytes(path),
                "file_bytes": path.stat().st_size,
                **{name: on[name] for name in ("accuracy", "whole_answer", "kl_to_teacher")},
                "off_delta_p99": off["delta_p99"],
            }


def kv_bytes(path: Path) -> int:
    """Bytes of keys and values in the file, scales counted."""
    from safetensors import safe_open

    stored = {"keys", "keys_scale", "values", "values_scale"}
    with safe_open(path, framework="pt") as file:
        return sum(file.get_tensor(name).nbytes for name in stored.intersection(file.keys()))


def means(rows: Sequence[Row]) -> list[Row]:
    """The mean over tasks, a row per precision."""
    found = []
    for precision in PRECISIONS:
        group = [row for row in rows if row["precision"] == precision]
        if group:
            mean = {name: sum(row[name] for row in group) / len(group) for name in (*SIZES, *SCORES)}
            found.append({"task": "mean", "precision": precision, **mean})
    return found


def claims(found: Sequence[Row]) -> list[Row]:
    """What int8 costs on the mean of the tasks, beside what it may."""
    mean = {row["precision"]: row for row in found}
    if not mean:
        return []
    whole, small = mean["fp32"], mean["int8"]
    costs = {
        "int8 costs accuracy": (whole["accuracy"] - small["accuracy"], ACCURACY_COST),
        "int8 costs of OFF p99, as a share": (small["off_delta_p99"] / whole["off_delta_p99"] - 1, P99_COST),
    }
    return [
        {"name": name, "value": value, "at_most": at_most, "holds": value <= at_most}
        for name, (value, at_most) in costs.items()
    ]


def markdown(rows: Sequence[Row]) -> str:
    """The rows of every task and of their mean, then the claims."""
    found = means(rows)
    cells = [
        [
            row["task"],
            row["precision"],
            *(f"{row[name]:,.0f}" for name in SIZES),
            f"{row['accuracy']:.3f}",
            f"{row['whole_answer']:.3f}",
            f"{row['kl_to_teacher']:.4f}",
            f"{row['off_delta_p99']:.3f}",
        ]
        for row in [*rows, *found]
    ]
    columns = ["task", "precision", "KV bytes", "file bytes", "first token", "whole answer", "KL to teacher", "OFF p99"]
    checked = [
        f"{claim['name']} {claim['value']:.4f}, at most {claim['at_most']}: {'holds' if claim['holds'] else 'FAILS'}"
        for claim in claims(found)
    ]
    return "\n\n".join([markdown_table(columns, cells, words=2), *checked])


def main() -> None:
    parser = options(__doc__, task_names(), "runs/precision_table.json")
    add_student_options(parser)
    parser.add_argument("--teacher-min", type=float, default=TEACHER_MIN, metavar="SHARE")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="of extractions (default: that of `cedkv extract`)")
    args = parser.parse_args()
    cache = StateCache(args.cache) if args.cache else extraction_cache()
    table, failed = PrecisionTable(args.out), 0
    lm = load(args)
    for task in args.tasks:
        config = for_task(load_config(None, args.set), task)
        key = f"{lm.fingerprint} {args.method} {args.slots} {args.teacher_min} {config_hash(config, 3)}"
        try:
            if not table.holds(task, key):
                table.put({"key": key, **measure(lm, cache, task, config, args)})
                print(f"{task} judged", file=sys.stderr)
        except CedKVError as error:
            failed += 1
            print(f"precision_table: {task}: {error}", file=sys.stderr)
    table.write()
    print(markdown(table.rows))
    if failed:
        sys.exit(f"precision_table: {failed} of {len(args.tasks)} tasks could not be judged")


if __name__ == "__main__":
    run(main)
