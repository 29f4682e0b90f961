"""Means beside the teacher's, the Pareto front by hand, and the files that a sweep leaves."""

import csv
import io
import json
from xml.etree import ElementTree

import pytest

from cedkv.errors import OutputError
from cedkv.sweep.plot import frontier_figure, frontier_svg
from cedkv.sweep.tables import Row, as_csv, points, read_rows


def row(method: str, accuracy: float, p99: float, slots: int | None = None, task: str = "a", **more) -> Row:
    figures = {"whole_answer": 0.0, "answer_logprob": -1.0, "kl_to_teacher": 0.1, "off_mean": 0.1}
    fields = {
        "task": task, "seed": 0, "method": method, "slots": slots, "settings": {"phase3.slots": slots} if slots else {},
        "beside": "x", "model": "m", "figures": {**figures, "accuracy": accuracy, "off_p99": p99}, "seconds": 1.0,
        "run": None, "worker": None, "error": None,
    }  # fmt: skip
    return {**fields, **more}


TEACHER = [row("teacher", 0.8, 4.0), row("base", 0.0, 0.0)]
# Shares .5, .75, .75, 1: of equal shares the quieter counts, and more accuracy may cost more.
FRONT = [
    *TEACHER,
    row("chunked", 0.4, 1.0, 2),
    row("chunked", 0.6, 2.0, 4),
    row("select", 0.6, 2.5, 4),
    row("ced", 0.8, 3.0, 8),
    row("free", 0.3, 1.0, 2),
]


def on_front(rows) -> list[tuple]:
    return [(point["method"], point["slots"]) for point in points(rows) if point["front"]]


def test_the_front_by_hand():
    assert on_front(FRONT) == [("chunked", 2), ("chunked", 4), ("ced", 8)]
    better = [*FRONT, row("ced", 0.8, 0.9, 4)]
    assert on_front(better) == [("ced", 4)], "as accurate as the best and quieter than all"
    twins = [*TEACHER, row("ced", 0.4, 1.0, 2), row("free", 0.4, 1.0, 2)]
    assert on_front(twins) == [("ced", 2), ("free", 2)], "neither of two equal points beats the other"


def test_references_are_beside_the_front_and_never_on_it():
    quiet = [*TEACHER, row("neutral_token", 0.8, 0.1), row("ced", 0.4, 1.0, 2)]
    assert on_front(quiet) == [("ced", 2)]
    assert [point["method"] for point in points(quiet)] == ["teacher", "base", "neutral_token", "ced"]


def test_means_over_tasks_are_beside_the_teachers_of_the_same_tasks():
    rows = [*TEACHER, row("teacher", 0.4, 2.0, task="b"), row("ced", 0.4, 1.0, 2), row("ced", 0.2, 3.0, 2, task="b")]
    ced = points(rows)[-1]
    assert ced["share"] == pytest.approx(0.6 / 1.2)
    assert (ced["accuracy"], ced["off_p99"]) == (pytest.approx(0.3), pytest.approx(2.0))
    assert (ced["episodes"], ced["of"]) == (2, 2)


def test_a_point_that_failed_somewhere_is_not_on_the_front():
    error = row("ced", 0, 0, 2, task="b", figures={}, error="why")
    rows = [*TEACHER, row("teacher", 0.4, 2.0, task="b"), row("ced", 0.8, 0.5, 2), error]
    ced = points(rows)[-1]
    assert (ced["episodes"], ced["of"], ced["front"]) == (1, 2, False)
    assert ced["share"] == pytest.approx(1.0)
    assert all(point["method"] != "free" for point in points([*rows, row("free", 0, 0, 2, figures={}, error="why")]))


def test_without_a_teacher_that_is_ever_right_there_is_no_share():
    (_, ced) = points([row("teacher", 0.0, 4.0), row("ced", 0.4, 1.0, 2)])
    assert (ced["share"], ced["front"]) == (None, False)


def test_the_csv_has_a_line_per_cell_and_a_column_per_setting():
    failed = row("free", 0, 0, 8, figures={}, seconds=None, error="a, b")
    lines = list(csv.DictReader(io.StringIO(as_csv([*FRONT, failed]))))
    assert len(lines) == len(FRONT) + 1
    assert (lines[2]["phase3.slots"], lines[2]["accuracy"], lines[2]["off_p99"]) == ("2", "0.4000", "1.0000")
    assert (lines[-1]["error"], lines[-1]["accuracy"], lines[-1]["seconds"]) == ("a, b", "", "")


def test_both_pictures_have_every_point_and_the_front():
    found = points(FRONT)
    drawn = ElementTree.fromstring(frontier_svg(found))
    titles = [node.text for node in drawn.iter() if node.tag.endswith("title")]
    assert len(titles) == len(found)
    assert "CED mixture, S=8: share 1.000, p99 3.000" in titles
    filled = [node for node in drawn.iter() if node.tag.endswith("circle") and node.get("fill") != "none"]
    assert sum(node.find("{*}title") is not None for node in filled) == 3
    line, *series = frontier_figure(found).data
    assert (list(line.x), list(line.y)) == ([1.0, 2.0, 3.0], pytest.approx([0.5, 0.75, 1.0]))
    assert [trace.name for trace in series] == ["teacher", "base", "chunked", "Select-KV", "CED mixture", "Free-KV"]
    assert [list(trace.customdata) for trace in series][2:4] == [[2, 3], [4]]


def test_a_name_is_never_markup():
    odd = [*TEACHER, row("<b>", 0.4, 1.0, 2, settings={"phase3.x": "<i>&"})]
    ElementTree.fromstring(frontier_svg(points(odd)))
    assert "<i>" not in frontier_figure(points(odd)).to_json().replace("\\u003c", "<").replace("<br>", "")


def test_what_was_written_is_read_again_and_anything_else_refused(tmp_path):
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps({"rows": FRONT, "points": [], "versions": {}}))
    assert read_rows(file) == FRONT
    for odd in (
        "no json", "[]", '{"rows": []}', json.dumps({"rows": [{**FRONT[0], "more": 1}]}),
        json.dumps({"rows": [{**FRONT[0], "figures": {}}]}), json.dumps({"rows": [{**FRONT[0], "seed": "0"}]}),
        json.dumps({"rows": FRONT}).replace("4.0", "NaN"),
    ):  # fmt: skip
        file.write_text(odd)
        with pytest.raises(OutputError, match="'mine.json' (is no|holds rows)") as raised:
            read_rows(file, "mine.json")
        assert "\n" not in str(raised.value)
    with pytest.raises(OutputError, match="is no sweep.json"):
        read_rows(tmp_path / "missing.json")
