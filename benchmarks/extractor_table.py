"""What an extractor adds to the closed form, on tasks and templates that it has never seen.

    python benchmarks/extractor_table.py --out runs/extractor.json

judges the tasks that the extractor's own notes name as held out, in a held-out template, at eight slots and at as many
as the template has places. `--orders 3` asks with the demonstrations in three orders. The rows are kept beside the file
and the same command goes on where it was interrupted.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import load, markdown_table, options, run
from cedkv.config import Config, load_config
from cedkv.episodes import RelationEpisode
from cedkv.episodes.relation.template import tokenize_demos
from cedkv.files import dump_json, write_whole
from cedkv.harm import YARDSTICKS
from cedkv.ledger import Ledger, Row, row_key
from cedkv.lm import LanguageModel
from cedkv.methods import METHODS
from cedkv.methods.amortised import extractor_for
from cedkv.provenance import library_versions
from cedkv.slots.chunked import chunks_by_place
from cedkv.state import KVPrefix
from cedkv.sweep.judging import TaskBench

PLACES = 0
# As they are, of a size of their own: the demonstrations, a line break, an ordinary paragraph.
GIVEN = ("teacher", *YARDSTICKS)
MADE = ("chunked", "amortised", "ced", "free", "few_shot")
FIGURES = ("accuracy", "whole_answer", "kl_to_teacher", "off_p99", "off_mean", "seconds")


class OrderedBench(TaskBench):
    """A task whose demonstrations stand in another order; 0 is the one that they were drawn in."""

    def __init__(self, lm: LanguageModel, config: Config, order: int) -> None:
        super().__init__(lm, config)
        self.order = order

    @cached_property
    def episode(self) -> RelationEpisode:
        episode = cast(RelationEpisode, super().episode)
        if not self.order:
            return episode
        demos = random.Random(self.order).sample(episode.demos, len(episode.demos))
        return replace(episode, demos=tuple(demos), tokens=tokenize_demos(self.lm, demos, episode.template))


def made(bench: TaskBench, method: str, slots: int) -> tuple[KVPrefix, float]:
    """A method's state, and the seconds it took after the demonstrations' own forward."""
    workbench = bench.workbench
    assert workbench.demo_kv is not None and workbench.directions is not None  # read before the clock starts
    started = time.perf_counter()
    *_, done = METHODS[method].run(workbench, slots)  # without the measuring that states are noted with
    return done.result.prefix, time.perf_counter() - started


def judge(bench: TaskBench, view: str, asked: int) -> Row:
    if view in GIVEN:
        prefix, seconds = bench.reference(view), 0.0
        assert prefix is not None
    else:
        slots = asked or len(chunks_by_place(bench.episode.tokens))
        prefix, seconds = made(bench, view, slots)
    return {"slots": prefix.slots, "seconds": seconds, **bench.figures([prefix])}


def rows_of(lm: LanguageModel, ledger: Ledger, args: argparse.Namespace) -> Iterator[Row]:
    """The rows that are asked for, as they come; those that are known are not measured again."""
    known = ledger.rows()
    cells = product(args.templates, args.demos, range(args.orders), args.tasks)
    for template, demos, order, task in cells:
        base = [
            "episode.template=" + dump_json(template).strip(),
            f"episode.demos={demos}",
            f"episode.task={task}",
            *args.set,
        ]
        config = load_config(None, base)
        bench = OrderedBench(lm, config, order)
        for view, asked in [(view, slots) for slots in args.slots for view in args.views]:
            asked = PLACES if view in GIVEN else asked
            extractor = extractor_for(lm, config)
            place = {"task": task, "template": template, "demos": demos, "view": view, "asked": asked, "order": order}
            key = row_key(**place, settings=config.model_dump(mode="json"), model=lm.fingerprint,
                          extractor=extractor.digest if extractor else "")  # fmt: skip
            if key not in known:
                known[key] = {**place, **judge(bench, view, asked)}
                ledger.put(key, known[key])
                print(known[key], file=sys.stderr, flush=True)
            yield known[key]


def means(rows: Sequence[Row]) -> list[Row]:
    """Per template, number of demonstrations, their order, view and size the means over tasks."""
    names = ("template", "demos", "order", "view", "asked")
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        group = groups.setdefault(tuple(row[name] for name in names), [])
        group += [] if row in group else [row]
    return [
        {**dict(zip(names, group, strict=True)), "tasks": len(found),
         **{name: sum(row[name] for row in found) / len(found) for name in FIGURES}}
        for group, found in groups.items()
    ]  # fmt: skip


def markdown(rows: Sequence[Row]) -> str:
    columns = ("view", "template", "demonstrations", "order", "slots", "first token / whole answer", "KL", "stress p99",
               "mean Delta", "seconds", "tasks")  # fmt: skip
    cells = [
        (row["view"], repr(row["template"]), row["demos"], row["order"],
         "" if row["view"] in GIVEN else row["asked"] or "places",
         f"{row['accuracy']:.2f} / {row['whole_answer']:.2f}", f"{row['kl_to_teacher']:.3f}", f"{row['off_p99']:.2f}",
         f"{row['off_mean']:.2f}", f"{row['seconds']:.2f}", row["tasks"])
        for row in means(rows)
    ]  # fmt: skip
    return markdown_table(columns, cells, words=2)


def main() -> None:
    parser = options(__doc__, [], "runs/extractor.json")
    parser.add_argument("--templates", nargs="+", default=["input_output"], metavar="NAME")
    parser.add_argument("--demos", nargs="+", type=int, default=[10], metavar="N")
    parser.add_argument("--orders", type=int, default=1, metavar="N", help="of the demonstrations")
    parser.add_argument("--slots", nargs="+", type=int, default=[8, PLACES], metavar="S", help="0: the places")
    parser.add_argument("--views", nargs="+", choices=(*GIVEN, *MADE), default=["teacher", "chunked", "amortised"],
                        metavar="VIEW", help=f"{', '.join((*GIVEN, *MADE))}")  # fmt: skip
    args = parser.parse_args()
    lm = load(args)
    extractor = extractor_for(lm, load_config(None, args.set))
    args.tasks = args.tasks or (extractor.notes["data"]["held_out_tasks"] if extractor else [])
    rows = list(rows_of(lm, Ledger(args.out.with_suffix(".jsonl")), args))
    write_whole(args.out, dump_json({"rows": rows, "means": means(rows), "versions": library_versions()}))
    shown = markdown(rows)
    write_whole(args.out.with_suffix(".md"), shown + "\n")
    print(shown)


if __name__ == "__main__":
    run(main)
