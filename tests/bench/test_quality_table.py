"""The quality table: means over capable teachers only, every row found again, students beside their teacher."""

import json
import sys

import pytest

from benchmarks import quality_table
from benchmarks.quality_table import FIGURES, REFERENCES, STUDENTS, Table, capable, markdown, means
from tests.bench.conftest import SHORT
from tests.tiny import tiny_path

KEY = {"seed": 0, "config": "x", "off_mean": 0.1}


def row(task: str, view: str, accuracy: float, slots: int = 0, kl: float = 0.0, p99: float = 1.0) -> dict:
    return {
        **KEY,
        "task": task,
        "view": view,
        "slots": slots,
        "accuracy": accuracy,
        "whole_answer": accuracy / 2,
        "answer_logprob": -1.0,
        "kl_to_teacher": kl,
        "off_p99": p99,
    }


ROWS = [
    row("a", "teacher", 0.8, p99=2.0),
    row("b", "teacher", 1.0, p99=4.0),
    row("weak", "teacher", 0.5),
    row("a", "ced", 0.6, slots=8, kl=0.2, p99=1.0),
    row("b", "ced", 0.9, slots=8, kl=0.4, p99=2.0),
    row("weak", "ced", 0.0, slots=8),
    row("a", "ced", 0.4, slots=2, kl=0.6, p99=3.0),
]


def test_tasks_with_a_weak_teacher_do_not_count():
    assert {row["task"] for row in capable(ROWS)} == {"a", "b"}
    assert {row["task"] for row in capable(ROWS, teacher_min=0.9)} == {"b"}


def test_means_by_hand():
    two, eight = (row for row in means(ROWS) if row["view"] == "ced")
    assert (eight["slots"], eight["episodes"]) == (8, 2)
    assert eight["accuracy"] == pytest.approx(0.75)
    assert eight["teacher_share"] == pytest.approx(0.75 / 0.9)
    assert eight["kl_to_teacher"] == pytest.approx(0.3)
    assert (eight["off_p99"], eight["teacher_off_p99"]) == (pytest.approx(1.5), pytest.approx(3.0))
    # Only task a was judged at two slots, so only its teacher stands beside it.
    assert (two["teacher_share"], two["teacher_off_p99"]) == (pytest.approx(0.5), pytest.approx(2.0))


def test_the_markdown_has_means_and_every_capable_task():
    shown = markdown(ROWS)
    assert "| ced | 8 | 0.750 | 0.833 | 0.375 (0.450) | -1.00 | 0.300 | 1.50 (3.00) | 2 |" in shown
    assert "| task | teacher | ced S=8 | ced S=2 |" in shown
    assert "| a | 0.80 / 0.40 | 0.60 / 0.30 | 0.40 / 0.20 |" in shown
    assert "| b | 1.00 / 0.50 | 0.90 / 0.45 |  |" in shown
    assert "weak" not in shown


def test_a_row_is_found_again_and_no_mean_is_of_two_settings(tmp_path):
    table = Table(tmp_path / "t.json")
    key = {"task": "a", "seed": 0, "slots": 8, "view": "ced", "config": "x"}
    figures = dict.fromkeys(FIGURES, 1.0)
    table.add(key, figures)
    again = Table(tmp_path / "t.json")
    assert again.find(key) == {**key, **figures}
    assert again.find({**key, "config": "y"}) is None
    other = Table(tmp_path / "t.json")
    other.add({**key, "config": "y"}, figures)
    assert [row["config"] for row in json.loads((tmp_path / "t.json").read_text())["rows"]] == ["y"]
    other.find(key)
    other.write()
    assert [row["config"] for row in json.loads((tmp_path / "t.json").read_text())["rows"]] == ["y", "x"]


def test_the_command_judges_each_view_once_and_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    settings = [*SHORT, f"run.model.id={tiny_path('llama')}", "phase2.eval.on_samples=3", "episode.demos=3"]
    chosen = [flag for setting in settings for flag in ("--set", setting)]
    out = tmp_path / "quality.json"
    tasks = ["--tasks", "capitalize", "--teacher-min", "0"]

    def run(*views: str) -> str:
        command = ["quality_table", *tasks, "--slots", "2", "--views", *views, *chosen, "--out", str(out)]
        monkeypatch.setattr(sys, "argv", command)
        quality_table.main()
        return capsys.readouterr().err

    assert len(run("ced", "random").splitlines()) == 6
    told = run("ced", "random", *[name for name in STUDENTS if name not in ("ced", "random")])
    assert "ced S=2" not in told and "random" not in told
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["view"] for row in rows[:6]] == [*REFERENCES, "ced", "random"]
    judged_at_two = {name for name, view in STUDENTS.items() if 2 in view.slots}
    assert {row["view"] for row in rows} == {*REFERENCES, *judged_at_two} != {*REFERENCES, *STUDENTS}
    assert rows[1]["kl_to_teacher"] == pytest.approx(0, abs=1e-6)
    assert out.with_suffix(".md").exists()


def test_a_weak_teacher_ends_a_task(tmp_path, monkeypatch, capsys):
    settings = [*SHORT, f"run.model.id={tiny_path('llama')}", "phase2.eval.on_samples=3", "episode.demos=3"]
    chosen = [flag for setting in settings for flag in ("--set", setting)]
    monkeypatch.setattr(
        sys, "argv", ["quality_table", "--tasks", "capitalize", *chosen, "--out", str(tmp_path / "q.json")]
    )
    quality_table.main()
    assert len(capsys.readouterr().err.splitlines()) == 2
