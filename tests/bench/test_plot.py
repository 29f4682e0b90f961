"""The plot and the tables are made of the benchmark's own figures."""

import re
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.plot_bench import main, markdown, nice_ceiling, panels, svg
from cedkv.report import dump_json, write_whole

SVG = "{http://www.w3.org/2000/svg}"


def test_every_panel_shows_its_figures(figures):
    by_slots, by_demos, latency, memory = panels(figures)
    assert (list(by_slots.x), list(by_demos.x), list(latency.x), list(memory.x)) == ([2, 3], [3, 4], [3, 4], [3, 4])
    assert latency.lines["slots"] == [row["student"] for row in figures["ttft_ms"]]
    assert memory.lines["demos"][1] == figures["kv_bytes"]["teacher"] / 1024


def test_a_line_has_a_point_for_every_value(figures):
    drawing = ElementTree.fromstring(svg(figures))
    lines = drawing.findall(f".//{SVG}polyline")
    assert len(lines) == sum(len(panel.lines) for panel in panels(figures)) == 8
    assert all(len(line.get("points").split()) == 2 for line in lines)
    assert len(drawing.findall(f".//{SVG}circle")) == 16


def test_higher_values_are_drawn_higher(figures):
    drawing = ElementTree.fromstring(svg(figures))
    teacher, student, _ = drawing.findall(f"{SVG}g")[-1].findall(f"{SVG}polyline")
    heights = [[float(point.split(",")[1]) for point in line.get("points").split()] for line in (teacher, student)]
    assert heights[0][1] < heights[0][0], "the demonstrations' keys and values grow"
    assert heights[1][0] == heights[1][1], "the slots' do not"


@pytest.mark.parametrize(("value", "ceiling"), [(0.03, 0.04), (1, 1), (1.1, 2), (7, 8), (9, 10), (230, 400)])
def test_axes_end_at_short_numbers(value, ceiling):
    assert nice_ceiling(value) == pytest.approx(ceiling)


def test_the_tables_hold_every_row(figures):
    shown = markdown(figures)
    assert len(re.findall(r"^\| (?:fp32|bf16) ", shown, re.MULTILINE)) == 2
    for row in figures["extract"]:
        assert f"| {row['slots']} | {row['demos']} | {row['tokens']} | {row['steps']} | {row['seconds']:.1f} |" in shown
    assert f"{figures['peak_rss_mb']:.0f} MiB" in shown


def test_the_command_writes_both_files(figures, tmp_path, monkeypatch, capsys):
    write_whole(tmp_path / "bench.json", dump_json(figures))
    monkeypatch.setattr(sys, "argv", ["plot_bench", str(tmp_path / "bench.json"), "--out", str(tmp_path / "shown")])
    main()
    assert (tmp_path / "shown.svg").read_text(encoding="utf-8") == svg(figures)
    tables = markdown(figures) + "\n"
    assert (tmp_path / "shown.md").read_text(encoding="utf-8") == capsys.readouterr().out == tables
