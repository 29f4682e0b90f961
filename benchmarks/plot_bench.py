"""A plot (SVG) and tables (Markdown) from the figures of `python -m cedkv bench`.

    python benchmarks/plot_bench.py runs/bench.json --out docs/bench

writes docs/bench.svg and docs/bench.md and prints the tables.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cedkv.report import write_whole

WIDTH, HEIGHT, MARGIN = 420, 260, 52
# Readable on light and on dark pages.
TEXT, GRID = "#7d8590", "#7d859055"
COLOURS = ("#4c78a8", "#e4812e", "#3f9e6b")
VIEWS = {"teacher_prompt": "demos in the prompt", "teacher_cached": "demos cached", "student": "slots"}
Figures = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """One plot: values of every line at the same places of x."""

    title: str
    x_label: str
    x: Sequence[float]
    lines: dict[str, Sequence[float]]


def panels(figures: Figures) -> list[Panel]:
    by_slots, by_demos = sizes(figures)
    latency, growth = figures["ttft_ms"], figures["growth"]
    return [
        Panel(
            f"Seconds to extract ({by_slots[0]['demos']} demos)",
            "slots",
            [row["slots"] for row in by_slots],
            {"ced": [row["seconds"] for row in by_slots]},
        ),
        Panel(
            f"Seconds to extract ({by_demos[0]['slots']} slots)",
            "demonstrations",
            [row["demos"] for row in by_demos],
            {"ced": [row["seconds"] for row in by_demos]},
        ),
        Panel(
            "Time to first token, ms",
            "demonstrations",
            [row["demos"] for row in latency],
            {label: [row[view] for row in latency] for view, label in VIEWS.items()},
        ),
        Panel(
            "Keys and values, KiB",
            "demonstrations",
            [row["demos"] for row in growth],
            {
                "demos": [row["teacher_kv_bytes"] / 1024 for row in growth],
                "slots": [row["student_kv_bytes"] / 1024 for row in growth],
                "state file": [row["state_file_bytes"] / 1024 for row in growth],
            },
        ),
    ]


def sizes(figures: Figures) -> tuple[list[Figures], list[Figures]]:
    """The extraction rows that differ in slots, and those that differ in demonstrations."""
    rows = figures["extract"]
    demos, slots = figures["usual"]["demos"], figures["usual"]["slots"]
    return (
        sorted((row for row in rows if row["demos"] == demos), key=lambda row: row["slots"]),
        sorted((row for row in rows if row["slots"] == slots), key=lambda row: row["demos"]),
    )


def svg(figures: Figures) -> str:
    """All panels, two in a row."""
    drawn = panels(figures)
    rows = (len(drawn) + 1) // 2
    body = "\n".join(
        f'<g transform="translate({index % 2 * WIDTH},{index // 2 * HEIGHT})">\n{"".join(_panel(panel))}</g>'
        for index, panel in enumerate(drawn)
    )
    size = f'width="{2 * WIDTH}" height="{rows * HEIGHT}" viewBox="0 0 {2 * WIDTH} {rows * HEIGHT}"'
    font = f'font-family="sans-serif" font-size="12" fill="{TEXT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>\n{body}\n</svg>\n'


def _panel(panel: Panel) -> Iterator[str]:
    left, right, top, bottom = MARGIN, WIDTH - 16, MARGIN, HEIGHT - 40
    highest = nice_ceiling(max(value for line in panel.lines.values() for value in line))
    low, high = min(panel.x), max(panel.x)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * (x - low) / (high - low or 1), bottom - (bottom - top) * y / highest

    yield _text(left, 18, panel.title, weight="bold")
    for part in range(5):
        value = highest * part / 4
        _, y = place(low, value)
        yield f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{GRID}"/>\n'
        yield _text(left - 6, y + 4, f"{value:g}", anchor="end")
    for x in panel.x:
        yield _text(place(x, 0)[0], bottom + 16, f"{x:g}", anchor="middle")
    yield _text((left + right) / 2, bottom + 32, panel.x_label, anchor="middle")
    for number, (name, values) in enumerate(panel.lines.items()):
        points = [place(x, y) for x, y in zip(panel.x, values, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        colour = COLOURS[number]
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>\n'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>\n' for x, y in points)
        if len(panel.lines) > 1:
            yield _text(left + number * 122, 38, f"● {name}", fill=colour)


def _text(x: float, y: float, content: str, anchor: str = "start", fill: str = TEXT, weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" fill="{fill}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(content)}</text>\n'


def nice_ceiling(value: float) -> float:
    """The next of 1, 2, 4, 8 times a power of ten: quarters of it are short numbers."""
    power = 10.0
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return next(power * step for step in (1, 2, 4, 8, 10) if power * step >= value)


def markdown(figures: Figures) -> str:
    machine, load, size = figures["machine"], figures["model_load_s"], figures["kv_bytes"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {figures['model']['id']} in {figures['model']['dtype']}.",
        "",
        "| training step | GFLOP | seconds | steps/s | GFLOP/s | matrix multiply, GFLOP/s | share |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in figures["step"]:
        cells = [
            f"{row['gflop']:.1f}",
            f"{row['seconds']:.3f}",
            f"{row['steps_per_second']:.2f}",
            f"{row['gflops']:.0f}",
        ]
        rate = figures["gemm_gflops"][row["dtype"]]
        lines.append(f"| {row['dtype']} | " + " | ".join(cells) + f" | {rate:.0f} | {row['utilisation']:.2f} |")
    lines += ["", "| slots | demos | tokens | steps | seconds to extract |", "| ---: | ---: | ---: | ---: | ---: |"]
    for row in figures["extract"]:
        lines.append(f"| {row['slots']} | {row['demos']} | {row['tokens']} | {row['steps']} | {row['seconds']:.1f} |")
    titles = " | ".join(f"{label}: first token, ms (tokens/s)" for label in VIEWS.values())
    lines += ["", f"| demos | tokens | {titles} |", "| ---: | ---: |" + " ---: |" * len(VIEWS)]
    for first, rate in zip(figures["ttft_ms"], figures["tokens_per_second"], strict=True):
        cells = [f"{first[view]:.0f}" + (f" ({rate[view]:.0f})" if rate[view] else "") for view in VIEWS]
        lines.append(f"| {first['demos']} | {first['tokens']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| model load, cold | warm | KV of the demonstrations | of the slots | peak memory |",
        "| ---: | ---: | ---: | ---: | ---: |",
        f"| {load['cold']:.1f} s | {load['warm']:.1f} s | {size['teacher'] / 1024:.0f} KiB | "
        f"{size['student'] / 1024:.0f} KiB | {figures['peak_rss_mb']:.0f} MiB |",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path, metavar="BENCH.JSON")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="PATH", help="without its suffix")
    args = parser.parse_args()
    figures = json.loads(args.figures.read_text(encoding="utf-8"))
    write_whole(args.out.with_suffix(".svg"), svg(figures))
    write_whole(args.out.with_suffix(".md"), markdown(figures) + "\n")
    print(markdown(figures))


if __name__ == "__main__":
    main()
