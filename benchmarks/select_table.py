"""How far Select-KV gets: its settings beside base, teacher, few-shot and random, task by task, in first tokens and
whole answers.

    python benchmarks/select_table.py --out runs/select_table.json

prints a Markdown table and writes the numbers as JSON. A number is bold where it reaches half of the teacher's
accuracy on a task whose teacher reaches 0.7.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import TEACHER_MIN, load, markdown_table, options, run
from cedkv.config import Config, load_config
from cedkv.episodes import Episode, episode_from_config
from cedkv.evaluation import Judge
from cedkv.files import dump_json, write_whole
from cedkv.lm import LanguageModel
from cedkv.methods import Workbench, extract
from cedkv.methods.select import random_trial
from cedkv.provenance import library_versions

TASKS = (
    "present-past",
    "verb-gerund",
    "singular-plural",
    "adjective-comparative",
    "capitalize",
    "repeat-word",
    "choose-first-of-3",
    "choose-last-of-3",
    "cardinal-ordinal",
    "food-or-clothing",
    "english-french",
    "country-continent",
)
# Overrides of the default setting, by the column's name.
VARIANTS = {
    "select": [],
    "no sink": ["phase2.select.keep_sink=false"],
    "reprefill": ["phase2.select.source=reprefill"],
    "whole demos": ["phase2.select.align=demo"],
    "causal drop": ["phase2.select.mode=causal_drop_span"],
}
TEACHER_SHARE = 0.5


def measure(lm: LanguageModel, task: str, settings: list[str]) -> dict:
    """One task's row: every column's first tokens and whole answers that are right, and the tokens it takes."""
    config = load_config(None, [f"episode.task={task}", *settings])
    episode = episode_from_config(lm, config)
    bench = Workbench(lm, episode, config)
    judge = Judge(lm, episode, bench.teacher, {})
    accuracy = {"base": judge.base_on.accuracy, "teacher": judge.teacher_on.accuracy}
    whole = {"base": judge.whole_answer(None), "teacher": judge.whole_answer(bench.teacher)}
    used = {"base": 0, "teacher": len(episode.tokens)}
    for name, prefix in _students(lm, episode, config, settings):
        accuracy[name], whole[name] = judge.on_view(prefix).accuracy, judge.whole_answer(prefix)
        used[name] = int(prefix.active.any(0).sum())
    trials = config.phase2.eval.n_random_trials
    random = [judge.scores(random_trial(bench, config.phase2.prefix_len, trial)) for trial in range(trials)]
    drawn = [scores["accuracy"] for scores in random]
    accuracy["random"] = sum(drawn) / trials
    whole["random"] = sum(scores["whole_answer"] for scores in random) / trials
    reached = [
        name
        for name, value in accuracy.items()
        if name not in ("base", "teacher")
        and value >= TEACHER_SHARE * accuracy["teacher"] >= TEACHER_SHARE * TEACHER_MIN
    ]
    right = {"accuracy": accuracy, "whole_answer": whole}
    return {"task": task, **right, "tokens": used, "random_trials": drawn, "reached": reached}


def _students(lm: LanguageModel, episode: Episode, config: Config, settings: list[str]) -> Iterator:
    slots = config.phase2.prefix_len
    for name, overrides in VARIANTS.items():
        variant = load_config(None, [f"episode.task={episode.task}", *settings, *overrides])
        yield name, extract(lm, episode, "select", slots, variant).prefix
    yield "few-shot", extract(lm, episode, "few_shot", slots, config).prefix


def markdown(rows: list[dict]) -> str:
    """The table, first token / whole answer; first tokens that reach half of a capable teacher's are bold."""
    columns = ["base", "teacher", *VARIANTS, "few-shot", "random"]
    lines = []
    for row in rows:
        cells = [f"{row['accuracy'][name]:.2f} / {row['whole_answer'][name]:.2f}" for name in columns]
        bold = [f"**{c}**" if name in row["reached"] else c for name, c in zip(columns, cells, strict=True)]
        lines.append([row["task"], *bold])
    capable = sum(row["accuracy"]["teacher"] >= TEACHER_MIN for row in rows)
    counts = [sum(name in row["reached"] for row in rows) for name in columns[2:]]
    lines.append([f"half of the teacher, of {capable} tasks", "", "", *counts])
    return markdown_table(["task", *columns], lines, words=1)


def main() -> None:
    parser = options(__doc__, TASKS, "runs/select_table.json")
    parser.add_argument("--on-samples", type=int, default=32, metavar="N", help="unseen queries per task")
    parser.add_argument("--on-train", type=int, default=16, metavar="N", help="queries that selection may read")
    parser.add_argument("--prefix-len", type=int, default=16, metavar="S")
    args = parser.parse_args()
    settings = [
        *args.set,
        f"phase2.eval.on_samples={args.on_samples}",
        f"episode.on_train={args.on_train}",
        f"phase2.prefix_len={args.prefix_len}",
    ]
    lm = load(args)
    rows = []
    for task in args.tasks:
        started = time.perf_counter()
        rows.append(measure(lm, task, settings))
        rows[-1]["seconds"] = time.perf_counter() - started
        print(f"{task}: {rows[-1]['seconds']:.0f} s", file=sys.stderr)
        model = {"id": lm.id, "fingerprint": lm.fingerprint}
        result = {"model": model, "settings": settings, "variants": VARIANTS, "rows": rows}
        write_whole(args.out, dump_json({**result, "versions": library_versions()}))
    print(markdown(rows))


if __name__ == "__main__":
    run(main)
