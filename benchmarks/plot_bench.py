"""A plot (SVG) and tables (Markdown) from the figures of `python -m cedkv bench`.

    python benchmarks/plot_bench.py runs/bench.json --out docs/bench.svg

writes the plot and prints the tables.
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

from benchmarks.tables import markdown_table
from cedkv.bench.latency import decoding_line
from cedkv.files import write_whole

WIDTH, HEIGHT = 500, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 340, 40, 216
LABEL_SPACING = 15
# Readable on light and on dark pages.
TEXT, GRID = "#7d8590", "#7d859055"
VIEWS = {"teacher_prompt": "demos in prompt", "teacher_cached": "demos cached", "student": "slots"}
# Colours that the colour-blind tell apart (Okabe & Ito 2008, the blue lighter for dark pages), and dashes beside them.
STYLES = {
    "demos in prompt": ("#d55e00", "7 3"),
    "demos cached": ("#cc79a7", "2 3"),
    "slots": ("#2b8bcb", "none"),
    "state file": ("#009e73", "9 3 2 3"),
    "demonstrations": ("#7a5195", "1 2"),
    "a paragraph": ("#a6761d", "12 4"),
    "a line break": ("#666666", "5 2 1 2"),
}
Figures = dict[str, Any]
Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """One plot; a line's points where there is a value."""

    title: str
    x_label: str
    lines: dict[str, list[Point]]

    @property
    def x(self) -> list[float]:
        return sorted({x for points in self.lines.values() for x, _ in points})

    @property
    def highest(self) -> float:
        return nice_ceiling(max(y for points in self.lines.values() for _, y in points))

    def place(self, point: Point) -> Point:
        """Where a point is drawn."""
        low, high = self.x[0], self.x[-1]
        share = (point[0] - low) / (high - low or 1)
        return LEFT + (RIGHT - LEFT) * share, BOTTOM - (BOTTOM - TOP) * point[1] / self.highest


def panels(figures: Figures) -> list[Panel]:
    by_slots, by_demos = sizes(figures)
    growth, demos = figures["growth"], "demonstrations"
    kib = {"demos cached": "teacher_kv_bytes", "slots": "student_kv_bytes", "state file": "state_file_bytes"}
    seconds = {"slots": "seconds"}
    ready = {"demos cached": "demo_prefill_ms", "state file": "state_load_ms"}
    views = {label: view for view, label in VIEWS.items()}
    usual = figures["usual"]
    return [
        _panel_of("Time to first token, ms", demos, figures["ttft_ms"], views),
        _panel_of("Tokens per second after it", demos, figures["tokens_per_second"], views),
        _panel_of("Keys and values, and the state file, KiB", demos, growth, kib, unit=1024),
        _panel_of("Time to read the file, or the demos, ms", demos, growth, ready),
        _panel_of(f"Extraction of {usual['demos']} demonstrations, s", "slots", by_slots, seconds, x="slots"),
        _panel_of(f"Extraction into {usual['slots']} slots, s", demos, by_demos, seconds),
    ]


def _panel_of(
    title: str, x_label: str, rows: Sequence[Figures], lines: dict[str, str], x: str = "demos", unit: float = 1
) -> Panel:
    points = {name: [(row[x], row[key] / unit) for row in rows if row[key] is not None] for name, key in lines.items()}
    return Panel(title, x_label, {name: line for name, line in points.items() if line})


def sizes(figures: Figures) -> tuple[list[Figures], list[Figures]]:
    """The extraction rows that differ in slots, and those that differ in demonstrations."""
    rows = figures["extract"]
    demos, slots = figures["usual"]["demos"], figures["usual"]["slots"]
    return (
        sorted((row for row in rows if row["demos"] == demos), key=lambda row: row["slots"]),
        sorted((row for row in rows if row["slots"] == slots), key=lambda row: row["demos"]),
    )


def svg(figures: Figures) -> str:
    return drawing(panels(figures))


def drawing(panels: Sequence[Panel]) -> str:
    """All panels that have anything to show, two in a row."""
    drawn = [panel for panel in panels if panel.lines]
    rows = (len(drawn) + 1) // 2
    body = "\n".join(
        f'<g transform="translate({index % 2 * WIDTH},{index // 2 * HEIGHT})">\n'
        f"{''.join([*_axes(panel), *_lines(panel)])}</g>"
        for index, panel in enumerate(drawn)
    )
    size = f'width="{2 * WIDTH}" height="{rows * HEIGHT}" viewBox="0 0 {2 * WIDTH} {rows * HEIGHT}"'
    font = f'font-family="sans-serif" font-size="12" fill="{TEXT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>\n{body}\n</svg>\n'


def _axes(panel: Panel) -> Iterator[str]:
    yield _text(LEFT, 20, panel.title, weight="bold")
    for part in range(5):
        value = panel.highest * part / 4
        _, y = panel.place((panel.x[0], value))
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{RIGHT}" y2="{y:.1f}" stroke="{GRID}"/>\n'
        yield _text(LEFT - 6, y + 4, f"{value:,g}", anchor="end")
    for x in panel.x:
        yield _text(panel.place((x, 0))[0], BOTTOM + 16, f"{x:g}", anchor="middle")
    yield _text((LEFT + RIGHT) / 2, BOTTOM + 32, panel.x_label, anchor="middle")


def _lines(panel: Panel) -> Iterator[str]:
    """Every line with its last value at its end, and its name where there are several."""
    ends = {name: panel.place(points[-1])[1] for name, points in panel.lines.items()}
    labels = dict(zip(ends, spread(list(ends.values()), LABEL_SPACING), strict=True))
    for name, points in panel.lines.items():
        colour, dashes = STYLES[name]
        places = [panel.place(point) for point in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        yield f'<polyline points="{path}" {style}/>\n'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>\n' for x, y in places)
        label = f"{name} {short(points[-1][1])}" if len(panel.lines) > 1 else short(points[-1][1])
        yield _text(RIGHT + 8, labels[name] + 4, label, fill=colour, weight="bold")


def _text(x: float, y: float, content: str, anchor: str = "start", fill: str = TEXT, weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" fill="{fill}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(content)}</text>\n'


def spread(heights: Sequence[float], spacing: float) -> list[float]:
    """The heights moved apart, upwards from the lowest on the page, until none is closer than `spacing`."""
    moved = list(heights)
    lowest = float("inf")
    for index in sorted(range(len(heights)), key=lambda i: heights[i], reverse=True):
        moved[index] = lowest = min(heights[index], lowest - spacing)
    return moved


def short(value: float) -> str:
    """Three figures, or as many as it has before the point."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def nice_ceiling(value: float) -> float:
    """The next of 1, 2, 4, 8 times a power of ten: quarters of it are short numbers."""
    power = 10.0
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return next(power * step for step in (1, 2, 4, 8, 10) if power * step >= value)


def markdown(figures: Figures) -> str:
    """All tables, with what they were measured on and what they show at the most demonstrations."""
    machine, model = figures["machine"], figures["model"]
    measured_on = f"{machine['processor']}, {machine['cores']} cores, {model['id']} in {model['dtype']}."
    tables = (latency_table, growth_table, extract_table, step_table, facts_table)
    return "\n\n".join([measured_on, *(make(figures) for make in tables)])


def latency_table(figures: Figures) -> str:
    columns = [f"{label}: first token, ms (tokens/s)" for label in VIEWS.values()]
    rows = []
    for first, rate in zip(figures["ttft_ms"], figures["tokens_per_second"], strict=True):
        cells = [f"{first[view]:.0f}" + (f" ({rate[view]:.0f})" if rate[view] else "") for view in VIEWS]
        rows.append([first["demos"], first["tokens"], *cells])
    last = figures["ttft_ms"][-1]
    prompt, cached = (f"{last['student'] / last[view]:.2f}" for view in ("teacher_prompt", "teacher_cached"))
    shown = f"At {last['demos']} demonstrations the slots' first token takes {prompt} of the prompt's time"
    return markdown_table(["demos", "tokens", *columns], rows) + f"\n\n{shown} and {cached} of the cached one's."


def growth_table(figures: Figures) -> str:
    columns = ["demos", "KV of the demos, KiB", "of the slots, KiB", "state file, KiB", "read it, ms", "read demos, ms"]
    rows = [
        [
            row["demos"],
            *(f"{row[name] / 1024:,.0f}" for name in ("teacher_kv_bytes", "student_kv_bytes", "state_file_bytes")),
            *(f"{row[name]:.1f}" for name in ("state_load_ms", "demo_prefill_ms")),
        ]
        for row in figures["growth"]
    ]
    return markdown_table(columns, rows)


def extract_table(figures: Figures) -> str:
    names = ("slots", "demos", "tokens", "steps")
    rows = [[*(row[name] for name in names), f"{row['seconds']:.1f}"] for row in figures["extract"]]
    return markdown_table([*names, "seconds to extract"], rows)


def step_table(figures: Figures) -> str:
    rows = [
        [
            row["dtype"],
            f"{row['gflop']:.1f}",
            f"{row['seconds']:.3f}",
            f"{row['gflops']:.0f}",
            f"{figures['gemm_gflops'][row['dtype']]:.0f}",
            f"{row['utilisation']:.2f}",
        ]
        for row in figures["step"]
    ]
    columns = ["training step", "GFLOP", "seconds", "GFLOP/s", "matrix multiply, GFLOP/s", "share"]
    return markdown_table(columns, rows)


def facts_table(figures: Figures) -> str:
    load, memory = figures["model_load_s"], figures["peak_rss_mb"]
    cells = [f"{load['cold']:.1f} s", f"{load['warm']:.1f} s", f"{memory:.0f} MiB", decoding_line(figures["decoding"])]
    return markdown_table(["model load, cold", "warm", "peak memory", "decoding"], [cells])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path, metavar="BENCH.JSON")
    parser.add_argument("--out", type=Path, default=Path("runs/bench.svg"), metavar="FILE", help="the plot")
    args = parser.parse_args()
    figures = json.loads(args.figures.read_text(encoding="utf-8"))
    write_whole(args.out, svg(figures))
    print(markdown(figures))


if __name__ == "__main__":
    main()
