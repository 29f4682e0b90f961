"""Measure speed and memory on this machine and write the figures as JSON."""

import argparse
from pathlib import Path
from typing import Any

from cedkv.bench import FULL, QUICK, iter_bench
from cedkv.cli.options import add_config_options, check_writable, config_from
from cedkv.cli.show import ProgressLine, drain, kib, table
from cedkv.report import dump_json, write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    parser.add_argument("--out", default="bench.json", metavar="FILE", help="the figures (default: bench.json)")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repeats; the JSON says so")


def run(args: argparse.Namespace) -> int:
    check_writable(args.out)
    figures = drain(iter_bench(config_from(args), QUICK if args.quick else FULL), ProgressLine())
    write_whole(Path(args.out), dump_json(figures))
    print("\n\n".join([steps_table(figures), extract_table(figures), latency_table(figures), facts_table(figures)]))
    print(args.out)
    return 0


def steps_table(figures: dict[str, Any]) -> str:
    """The training step's share of the machine's matrix-multiply rate."""
    rows = [["training step", "GFLOP", "seconds", "GFLOP/s", "of the matrix-multiply rate"]]
    for row in figures["step"]:
        share = f"{row['utilisation']:.0%} of {figures['gemm_gflops'][row['dtype']]:.0f}"
        rows.append([row["dtype"], f"{row['gflop']:.1f}", f"{row['seconds']:.3f}", f"{row['gflops']:.0f}", share])
    return table(rows, right=(1, 2, 3, 4))


def extract_table(figures: dict[str, Any]) -> str:
    rows = [["slots", "demos", "tokens", "steps", "seconds to extract"]]
    for row in figures["extract"]:
        rows.append([*(str(row[key]) for key in ("slots", "demos", "tokens", "steps")), f"{row['seconds']:.1f}"])
    return table(rows, right=(0, 1, 2, 3, 4))


def latency_table(figures: dict[str, Any]) -> str:
    views = ("teacher_prompt", "teacher_cached", "student")
    rows = [["demos", "tokens", *(f"{view}, first token ms (tokens/s)" for view in views)]]
    for first, rate in zip(figures["ttft_ms"], figures["tokens_per_second"], strict=True):
        cells = [f"{first[view]:.0f}" + (f" ({rate[view]:.0f})" if rate[view] is not None else "") for view in views]
        rows.append([str(first["demos"]), str(first["tokens"]), *cells])
    return table(rows, right=(0, 1, 2, 3, 4))


def facts_table(figures: dict[str, Any]) -> str:
    load, size = figures["model_load_s"], figures["kv_bytes"]
    return table(
        [
            ["model load", f"{load['cold']:.1f} s cold, {load['warm']:.1f} s warm"],
            ["keys and values", f"{kib(size['teacher'])} of the demonstrations, {kib(size['student'])} as slots"],
            ["peak memory", f"{figures['peak_rss_mb']:.0f} MiB"],
        ]
    )
