"""The plot and the tables are made of the benchmark's own figures."""

import copy
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.plot_bench import STYLES, main, markdown, nice_ceiling, panels, short, spread, svg
from cedkv.files import dump_json, write_whole

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: ElementTree.Element) -> list[str]:
    return [text.text for text in drawing.iter(f"{SVG}text")]


def test_every_panel_shows_its_figures(figures):
    first, rate, size, ready, by_slots, by_demos = panels(figures)
    assert [panel.x for panel in (first, rate, size, ready, by_demos)] == [[3, 4]] * 5
    assert by_slots.x == [2, 3]
    assert first.lines["slots"] == [(row["demos"], row["student"]) for row in figures["ttft_ms"]]
    assert rate.lines["demos cached"] == [(row["demos"], row["teacher_cached"]) for row in figures["tokens_per_second"]]
    assert size.lines["demos cached"][1] == (4, figures["kv_bytes"]["teacher"] / 1024)
    assert size.lines["state file"][1] == (4, figures["growth"][1]["state_file_bytes"] / 1024)
    assert ready.lines["state file"][0] == (3, figures["growth"][0]["state_load_ms"])


def test_a_line_has_a_point_for_every_value_and_ends_in_its_name(figures):
    drawing = ElementTree.fromstring(svg(figures))
    lines = drawing.findall(f".//{SVG}polyline")
    assert len(lines) == sum(len(panel.lines) for panel in panels(figures)) == 13
    assert all(len(line.get("points").split()) == 2 for line in lines)
    assert len(drawing.findall(f".//{SVG}circle")) == 26
    for panel in panels(figures):
        for name, points in panel.lines.items():
            last = short(points[-1][1])
            assert (f"{name} {last}" if len(panel.lines) > 1 else last) in texts(drawing)
        assert {panel.title, panel.x_label} <= set(texts(drawing))


def test_lines_differ_in_colour_and_in_dashes():
    colours, dashes = zip(*STYLES.values(), strict=True)
    assert len(set(colours)) == len(set(dashes)) == len(STYLES)


def test_higher_values_are_drawn_higher(figures):
    drawing = ElementTree.fromstring(svg(figures))
    teacher, student, _ = drawing.findall(f"{SVG}g")[2].findall(f"{SVG}polyline")
    heights = [[float(point.split(",")[1]) for point in line.get("points").split()] for line in (teacher, student)]
    assert heights[0][1] < heights[0][0], "the demonstrations' keys and values grow"
    assert heights[1][0] == heights[1][1], "the slots' do not"


def test_a_rate_that_no_answer_gave_is_left_out(figures):
    short_answers = copy.deepcopy(figures)
    for row in short_answers["tokens_per_second"]:
        row["student"] = None
    rate = panels(short_answers)[1]
    assert set(rate.lines) == {"demos in prompt", "demos cached"}
    assert len(ElementTree.fromstring(svg(short_answers)).findall(f".//{SVG}polyline")) == 12


@pytest.mark.parametrize(
    ("heights", "moved"),
    [
        ([10, 100, 200], [10, 100, 200]),
        ([100, 100], [100, 85]),
        ([200, 190, 195], [200, 170, 185]),
        ([50], [50]),
    ],
)
def test_labels_are_moved_apart(heights, moved):
    assert spread(heights, 15) == moved


@pytest.mark.parametrize(("value", "ceiling"), [(0.03, 0.04), (1, 1), (1.1, 2), (7, 8), (9, 10), (230, 400)])
def test_axes_end_at_short_numbers(value, ceiling):
    assert nice_ceiling(value) == pytest.approx(ceiling)


def test_the_tables_hold_every_row(figures):
    shown = markdown(figures)
    for row in figures["step"]:
        assert f"| {row['dtype']} | {row['gflop']:.1f} | {row['seconds']:.3f} |" in shown
    for row in figures["extract"]:
        assert f"| {row['slots']} | {row['demos']} | {row['tokens']} | {row['steps']} | {row['seconds']:.1f} |" in shown
    for row in figures["growth"]:
        assert f"| {row['state_load_ms']:.1f} | {row['demo_prefill_ms']:.1f} |" in shown
    assert f"{figures['peak_rss_mb']:.0f} MiB" in shown


def test_the_tables_say_how_much_sooner_slots_answer(figures):
    told = copy.deepcopy(figures)
    told["ttft_ms"][-1] |= {"teacher_prompt": 200.0, "teacher_cached": 30.0, "student": 25.0}
    assert "At 4 demonstrations the slots' first token takes 0.12 of the prompt's time and 0.83 of" in markdown(told)


def test_the_command_writes_the_plot_and_prints_the_tables(figures, tmp_path, monkeypatch, capsys):
    write_whole(tmp_path / "bench.json", dump_json(figures))
    monkeypatch.setattr(sys, "argv", ["plot_bench", str(tmp_path / "bench.json"), "--out", str(tmp_path / "shown.svg")])
    main()
    assert (tmp_path / "shown.svg").read_text(encoding="utf-8") == svg(figures)
    assert capsys.readouterr().out == markdown(figures) + "\n"
