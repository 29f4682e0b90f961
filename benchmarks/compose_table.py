"""What two states keep of their relations when they share one prefix: accuracy alone, composed first and second.

    python benchmarks/compose_table.py --tasks present-past capitalize --out runs/compose_table.json

composes every pair of the tasks in both orders, prints a Markdown table and writes the numbers as JSON.
"""

import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import add_student_options, load, markdown_table, options, run
from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.evaluation import Judge
from cedkv.files import dump_json, write_whole
from cedkv.methods import Workbench, extract
from cedkv.provenance import library_versions
from cedkv.state.compose import compose

TASKS = ("present-past", "capitalize", "singular-plural")


def main() -> None:
    parser = options(__doc__, TASKS, "runs/compose_table.json")
    add_student_options(parser)
    args = parser.parse_args()
    lm = load(args)
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
            alone, composed = (judges[task].scores(state) for state in (states[task], both))
            row = {"first": first, "second": second, "judged": task, "base": judges[task].base_on.accuracy}
            row |= {"teacher": judges[task].teacher_on.accuracy, "alone": alone["accuracy"]}
            row |= {"composed": composed["accuracy"], "kl_alone": alone["kl_to_teacher"]}
            row |= {"whole_alone": alone["whole_answer"], "whole_composed": composed["whole_answer"]}
            rows.append({**row, "kl_composed": composed["kl_to_teacher"]})
    write_whole(args.out, dump_json({"settings": args.set, "rows": rows, "versions": library_versions()}))
    names = ("first", "second", "judged", "base", "teacher", "alone", "composed", "whole_alone", "whole_composed",
             "kl_alone", "kl_composed")  # fmt: skip
    cells = [[*(row[name] for name in names[:3]), *(f"{row[name]:.3f}" for name in names[3:])] for row in rows]
    print(markdown_table(names, cells, words=3))


if __name__ == "__main__":
    run(main)
