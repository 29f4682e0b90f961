"""Map what settings do to ON and OFF over tasks, seeds and methods: here, in processes or on a Ray cluster."""

import argparse

from cedkv.cli.show import ProgressLine, drain, table
from cedkv.sweep.executors import EXECUTORS
from cedkv.sweep.plan import read_plan
from cedkv.sweep.plot import describe
from cedkv.sweep.run import Sweep, iter_sweep
from cedkv.sweep.tables import points


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", required=True, help="YAML file of the sweep (docs/sweep.md)")
    parser.add_argument(
        "--on", choices=EXECUTORS, default="inline", help="where cells are judged; ray needs the package of that name"
    )
    parser.add_argument("--out", default="runs/sweep", metavar="DIR", help="all files (default: runs/sweep)")
    parser.add_argument("--resume", action="store_true", help="go on with the rows that --out holds")


def run(args: argparse.Namespace) -> int:
    """Exits 2 where a cell has an error."""
    plan = read_plan(args.config)
    try:
        sweep = drain(iter_sweep(plan, args.out, args.on, args.resume), ProgressLine())
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"finished cells are kept in {args.out}; the same command with --resume goes on"
        ) from None
    print(points_table(sweep))
    if sweep.failed:
        print(
            f"\n{len(sweep.failed)} of {len(sweep.rows)} cells failed; the same command with --resume tries them again."
        )
    print(sweep.folder / "sweep.csv")
    return 2 if sweep.failed else 0


def points_table(sweep: Sweep) -> str:
    """Means over tasks and seeds; a star marks the Pareto front."""
    rows = [["", "of the teacher's", "first token", "whole answer", "KL to teacher", "OFF p99", "episodes", "front"]]
    for point in points(sweep.rows):
        share = "" if point["share"] is None else f"{point['share']:.3f}"
        figures = [f"{point['accuracy']:.3f}", f"{point['whole_answer']:.3f}", f"{point['kl_to_teacher']:.3f}"]
        counted = f"{point['episodes']} of {point['of']}"
        rows.append([describe(point), share, *figures, f"{point['off_p99']:.3f}", counted, "*" * point["front"]])
    return table(rows, right=range(1, 7))
