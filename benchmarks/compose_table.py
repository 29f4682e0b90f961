"""What two states keep of their relations when they share one prefix: accuracy alone, composed first and second.

    python benchmarks/compose_table.py --tasks present-past capitalize --out runs/compose_table.json

composes every pair of the tasks in both orders, prints a Markdown table and writes the numbers as JSON.
"""

import argparse
import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.errors import CedKVError
from cedkv.evaluation import Judge
from cedkv.lm import load_model
from cedkv.methods import METHODS, Workbench, extract
from cedkv.report import dump_json, library_versions, write_whole
from cedkv.state.compose import compose

TASKS = ("present-past", "capitalize", "singular-plural")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=TASKS, metavar="NAME")
    parser.add_argument("--method", choices=METHODS, default="ced")
    parser.add_argument("--slots", type=int, default=8, metavar="S")
    parser.add_argument("--model", default="embedded", metavar="ID")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="any other setting")
    parser.add_argument("--out", type=Path, default=Path("runs/compose_table.json"), metavar="FILE")
    args = parser.parse_args()
    lm = load_model(args.model)
    judges, states = {}, {}
    for task in args.tasks:
        config = load_config(None, [*args.set, f"episode.task={task}"])
        episode = episode_from_config(lm, config)
        judges[task] = Judge(lm, episode, Workbench(lm, episode, config).teacher, {})
        states[task] = extract(lm, episode, args.method, args.slots, config).prefix
        print(f"{task} extracted", file=sys.stderr)
    rows = []
    for first, second in itertools.permutations(args.tasks, 2):
        both = compose(states[first], states[second])
        for task in (first, second):
            alone, composed = (judges[task].on_scores(judges[task].on_view(s)) for s in (states[task], both))
            row = {"first": first, "second": second, "judged": task, "base": judges[task].base_on.accuracy}
            row |= {"teacher": judges[task].teacher_on.accuracy, "alone": alone["accuracy"]}
            row |= {"composed": composed["accuracy"], "kl_alone": alone["kl_to_teacher"]}
            rows.append({**row, "kl_composed": composed["kl_to_teacher"]})
    write_whole(args.out, dump_json({"settings": args.set, "rows": rows, "versions": library_versions()}))
    names = ("first", "second", "judged", "base", "teacher", "alone", "composed", "kl_alone", "kl_composed")
    print("| " + " | ".join(names) + " |", "| --- " * len(names) + "|", sep="\n")
    for row in rows:
        cells = [f"{row[name]:.3f}" if isinstance(row[name], float) else row[name] for name in names]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    try:
        main()
    except CedKVError as error:
        sys.exit(f"compose_table: {error}")
