"""Measure speed and memory on this machine and write the figures as JSON."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cedkv.cli.options import add_config_options, check_writable, config_from
from cedkv.cli.show import ProgressLine, drain, kib, table
from cedkv.events import Done, Event, Measured
from cedkv.files import dump_json, write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    parser.add_argument("--out", default="bench.json", metavar="FILE", help="the figures (default: bench.json)")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repeats; the JSON says so")


def run(args: argparse.Namespace) -> int:
    check_writable(args.out)
    from cedkv.bench import FULL, QUICK, iter_bench

    work = iter_bench(config_from(args), QUICK if args.quick else FULL)
    figures = drain(written(work, Path(args.out)), ProgressLine())
    shown = (steps_table, extract_table, latency_table, sizes_table, facts_table)
    print("\n\n".join(make(figures) for make in shown))
    print(args.out)
    return 0


def written(work: Iterator[Event], out: Path) -> Iterator[Event]:
    """The same events, each stage's figures written when they come: work that is stopped leaves what it measured."""
    kept = False
    try:
        for event in work:
            if isinstance(event, Measured | Done):
                write_whole(out, dump_json(event.figures if isinstance(event, Measured) else event.result))
                kept = True
            yield event
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the figures so far are kept in {out}" if kept else "nothing was measured") from None


def steps_table(figures: dict[str, Any]) -> str:
    """The training step's share of the machine's matrix-multiply rate."""
    rows = [["training step", "GFLOP", "seconds", "GFLOP/s", "of the matrix-multiply rate"]]
    for row in figures["step"]:
        share = f"{row['utilisation']:.0%} of {figures['gemm_gflops'][row['dtype']]:.0f}"
        rows.append([row["dtype"], f"{row['gflop']:.1f}", f"{row['seconds']:.3f}", f"{row['gflops']:.0f}", share])
    left_out = [f"{name} left out: {why}" for name, why in figures["left_out"].items()]
    return "\n".join([table(rows, right=(1, 2, 3, 4)), *left_out])


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


def sizes_table(figures: dict[str, Any]) -> str:
    """What is kept of the demonstrations, and how long it takes until it can be asked."""
    rows = [["demos", "tokens", "KV of demos", "KV of slots", "state file", "read it, ms", "prefill demos, ms"]]
    for row in figures["growth"]:
        sizes = [kib(row[name]) for name in ("teacher_kv_bytes", "student_kv_bytes", "state_file_bytes")]
        times = [f"{row[name]:.1f}" for name in ("state_load_ms", "demo_prefill_ms")]
        rows.append([str(row["demos"]), str(row["tokens"]), *sizes, *times])
    return table(rows, right=range(7))


def facts_table(figures: dict[str, Any]) -> str:
    from cedkv.bench.latency import decoding_line

    load, decoding = figures["model_load_s"], figures["decoding"]
    return table(
        [
            ["decoding", decoding_line(decoding)],
            ["model load", f"{load['cold']:.1f} s cold, {load['warm']:.1f} s warm"],
            ["peak memory", f"{figures['peak_rss_mb']:.0f} MiB"],
        ]
    )
