"""Rivals on one budget: accuracy, distance to the teacher, harm and seconds of all that could stand in for slots.

    python benchmarks/rivals.py --tasks present-past antonym --slots 8 --out runs/rivals.jsonl

judges every shipped task whose teacher reaches 0.7 by default. A row is in the ledger as soon as it is known and the
same command goes on where it was interrupted; the Markdown table is printed and written beside it. Context tuning needs
a slot for each token of the demonstrations and a function vector needs none: the column of slots says so. Seconds count
what is made once the model is loaded, the demonstrations' forward included.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import rival_methods
from benchmarks.rival_methods import FunctionVector, attention_matched, context_tuned, peft_prefix
from benchmarks.tables import TEACHER_MIN, markdown_table, options, run
from cedkv.config import Config, HarmSettings, dump_config, load_config
from cedkv.episodes import episode_from_config, task_names
from cedkv.errors import CedKVError
from cedkv.evaluation import Judge
from cedkv.events import drain
from cedkv.files import write_whole
from cedkv.gate.tables import for_task
from cedkv.harm import Asked, harm_of, yardstick
from cedkv.ledger import Ledger, Row, row_key
from cedkv.lm import LanguageModel, load_model
from cedkv.methods import Workbench, run_method
from cedkv.metrics import kl, off_summary
from cedkv.state import KVPrefix

Rival = KVPrefix | FunctionVector | None


def _method(name: str) -> Callable[[Workbench, int], Rival]:
    return lambda bench, slots: drain(run_method(name, bench, slots)).prefix


RIVALS: dict[str, Callable[[Workbench, int], Rival]] = {
    "base": lambda bench, slots: None,
    "teacher": lambda bench, slots: bench.teacher,
    "neutral_token": lambda bench, slots: yardstick("neutral_token", bench.lm, 1),
    "neutral_paragraph": lambda bench, slots: yardstick("neutral_paragraph", bench.lm, len(bench.episode.tokens)),
    "few_shot": _method("few_shot"),
    "select": _method("select"),
    "chunked": _method("chunked"),
    "ced": _method("ced"),
    "free": _method("free"),
    "ct_kv": context_tuned,
    "peft_prefix": peft_prefix,
    "attention_matching": attention_matched,
    "function_vector": lambda bench, slots: FunctionVector.of(bench),
}
# What stands beside the rivals whatever the budget.
REFERENCES = ("base", "teacher", "neutral_token", "neutral_paragraph")
FIGURES = ("accuracy", "whole_answer", "kl_to_teacher", "off_p99", "off_mean", "real_delta_mean", "perplexity_ratio")


def measure(lm: LanguageModel, ledger: Ledger, config: Config, args: argparse.Namespace) -> Iterator[Row]:
    """The missing rows of one task: references first, and rivals only of a capable teacher."""
    done, code = ledger.rows(), hashlib.sha256(Path(rival_methods.__file__).read_bytes()).hexdigest()
    episode = episode_from_config(lm, config)
    bench = Workbench(lm, episode, config)
    stress = episode.off_set("stress", config.phase3.off_data.stress_samples)
    judge = Judge(lm, episode, bench.teacher, {"stress": stress})
    for name in (*REFERENCES, *args.rivals):
        key = row_key(
            settings=dump_config(config), model=lm.fingerprint, rival=name, slots=args.slots,
            real=args.real_pieces, rivals=code,
        )  # fmt: skip
        if key not in done:
            place = {"task": config.episode.task, "seed": config.run.seed, "budget": args.slots, "rival": name}
            done[key] = {**place, **_row(judge, Workbench(lm, episode, config), name, args)}
            ledger.put(key, done[key])
        yield done[key]
        if name == "teacher" and done[key]["accuracy"] < args.teacher_min:
            return


def _row(judge: Judge, bench: Workbench, name: str, args: argparse.Namespace) -> Row:
    started = time.perf_counter()
    rival = RIVALS[name](bench, args.slots)
    seconds = time.perf_counter() - started
    figures = _of_vector(judge, rival) if isinstance(rival, FunctionVector) else _of_prefix(judge, rival, args)
    return {"slots": rival.slots if rival else 0, "seconds": seconds, **figures}


def _of_prefix(judge: Judge, prefix: KVPrefix | None, args: argparse.Namespace) -> Row:
    scores, off = judge.scores(prefix), judge.off_scores(judge.delta_off(prefix, "stress"), "stress")
    row = {name: scores[name] for name in ("accuracy", "whole_answer", "kl_to_teacher")}
    row |= {"off_p99": off["delta_p99"], "off_mean": off["delta_mean"]}
    if args.real_pieces:
        asked = Asked(judge.lm, judge.episode, HarmSettings(real_pieces=args.real_pieces))
        real = harm_of(asked, {"it": prefix})["real_text"]["it"]
        row |= {"real_delta_mean": real["delta_mean"], "perplexity_ratio": real["perplexity_ratio"]}
    return row


def _of_vector(judge: Judge, vector: FunctionVector) -> Row:
    """As `_of_prefix`; real text is not read: a function vector acts where an answer is wanted and nowhere else."""
    queries, probe = judge.episode.on_eval, judge.off_probes["stress"]
    first = vector.log_probs([query.asked_ids for query in queries])
    gold = torch.tensor([query.first_id for query in queries], device=first.device)
    answers = vector.answers([query.ids for query in queries], judge.answer_room, judge.episode.stop)
    right = judge.right(answers)
    texts = [off.bucket for off in judge.off_sets["stress"].texts]
    off = off_summary(kl(vector.log_probs(probe.ids), probe.base), texts)
    return {
        "accuracy": (first.argmax(-1) == gold).float().mean().item(),
        "whole_answer": sum(right) / len(right),
        "kl_to_teacher": kl(judge.teacher_on.first, first).mean().item(),
        "off_p99": off["delta_p99"],
        "off_mean": off["delta_mean"],
    }


def means(rows: Sequence[Row]) -> list[Row]:
    """Per rival and budget the means over tasks, and the accuracy as a share of the teacher's on the same ones."""
    teachers = {(row["task"], row["seed"], row["budget"]): row for row in rows if row["rival"] == "teacher"}
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["budget"], row["rival"]), []).append(row)
    found = []
    for (budget, name), group in groups.items():
        beside = [teachers[row["task"], row["seed"], row["budget"]] for row in group]
        own: dict[str, Any] = {
            figure: sum(row[figure] for row in group) / len(group)
            for figure in (*FIGURES, "seconds", "slots")
            if all(figure in row for row in group)
        }
        teacher = sum(row["accuracy"] for row in beside) / len(beside)
        share = {"teacher_share": own["accuracy"] / teacher} if teacher else {}
        found.append({"budget": budget, "rival": name, "tasks": len(group), **share, **own})
    return found


def markdown(rows: Sequence[Row], teacher_min: float = TEACHER_MIN) -> str:
    """The means over tasks with a capable teacher."""
    place = ("task", "seed", "budget")
    able = {
        tuple(row[name] for name in place)
        for row in rows
        if row["rival"] == "teacher" and row["accuracy"] >= teacher_min
    }
    shown = means([row for row in rows if tuple(row[name] for name in place) in able])
    columns = (
        "rival", "budget", "slots", "first token", "of the teacher's", "whole answer", "KL to teacher", "stress p99",
        "stress mean", "real text mean", "perplexity", "seconds", "tasks",
    )  # fmt: skip
    cells = [
        (
            row["rival"],
            row["budget"],
            f"{row['slots']:.0f}",
            f"{row['accuracy']:.3f}",
            f"{row['teacher_share']:.3f}" if "teacher_share" in row else "",
            f"{row['whole_answer']:.3f}",
            *(f"{row[name]:.3f}" for name in ("kl_to_teacher", "off_p99", "off_mean")),
            *(f"{row[name]:.3f}" if name in row else "" for name in ("real_delta_mean", "perplexity_ratio")),
            f"{row['seconds']:.2f}",
            row["tasks"],
        )
        for row in shown
    ]
    return markdown_table(columns, cells, words=1)


def parse_arguments() -> argparse.Namespace:
    parser = options(__doc__, task_names(), "runs/rivals.jsonl")
    rivals = [name for name in RIVALS if name not in REFERENCES]
    parser.add_argument("--rivals", nargs="+", choices=rivals, default=rivals, metavar="NAME")
    parser.add_argument("--slots", type=int, default=8, metavar="S", help="slots or tokens that each may have")
    parser.add_argument("--teacher-min", type=float, default=TEACHER_MIN, metavar="SHARE")
    parser.add_argument("--mixture", metavar="NAME")
    parser.add_argument("--real-pieces", type=int, default=0, metavar="N", help="pieces of real text that are read too")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    base = load_config(None, [f"run.model.id={args.model}", *args.set], args.mixture)
    lm = load_model(base.run.model.id, base.run.runtime.torch_dtype, base.run.runtime.device)
    ledger, rows, failed = Ledger(args.out), [], []
    for task in args.tasks:
        try:
            for row in measure(lm, ledger, for_task(base, task), args):
                rows.append(row)
                told = f"first {row['accuracy']:.2f}  whole {row['whole_answer']:.2f}  KL {row['kl_to_teacher']:.3f}"
                told += f"  p99 {row['off_p99']:.2f}  {row['seconds']:.1f} s"
                print(f"{task} {row['rival']}: {told}", file=sys.stderr)
        except CedKVError as error:
            failed.append(task)
            print(f"rivals: {task}: {error}", file=sys.stderr)
    shown = markdown(rows, args.teacher_min)
    write_whole(args.out.with_suffix(".md"), shown + "\n")
    print(shown)
    if failed:
        sys.exit(f"rivals: {len(failed)} of {len(args.tasks)} tasks could not be judged")


if __name__ == "__main__":
    run(main)
