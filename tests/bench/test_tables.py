"""The tables' common parts, and the precision table: every task once, means and claims by hand, files whole."""

import csv
import json
import sys

import pytest
import torch

from benchmarks import precision_table
from benchmarks.precision_table import PrecisionTable, claims, markdown, means
from benchmarks.tables import add_student_options, load, markdown_table, options, run
from cedkv.errors import ConfigError, OutputError
from cedkv.state import PRECISIONS
from cedkv.state.cache import StateCache
from tests.bench.conftest import SHORT
from tests.tiny import tiny_path


def test_a_markdown_table_by_hand():
    shown = markdown_table(["task", "n"], [["a", 1], ["b", "2.5"]], words=1)
    assert shown == "| task | n |\n| --- | ---: |\n| a | 1 |\n| b | 2.5 |"


def test_the_options_are_those_of_every_table():
    parser = options("What it is.\n\nMore.", ("a", "b"), "runs/x.json")
    add_student_options(parser)
    args = parser.parse_args(["--tasks", "c", "--set", "x=1", "--set", "y=2"])
    assert (args.tasks, args.set, args.model) == (["c"], ["x=1", "y=2"], "embedded")
    assert (str(args.out), args.method, args.slots) == ("runs/x.json", "ced", 8)
    assert parser.description == "What it is."


def test_a_mistake_ends_in_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks/some_table.py"])

    def main() -> None:
        raise ConfigError("what is wrong")

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == "some_table: what is wrong"


def row(task: str, precision: str, accuracy: float, p99: float) -> dict:
    sizes = {"kv_bytes": 1000, "file_bytes": 1500}
    return {
        "task": task,
        "precision": precision,
        **sizes,
        "accuracy": accuracy,
        "whole_answer": accuracy,
        "kl_to_teacher": 0.1,
        "off_delta_p99": p99,
    }


def rows_of(small_accuracy: float, small_p99: float) -> list[dict]:
    return [
        row("a", "fp32", 1.0, 1.0),
        row("a", "int8", 0.98, 1.2),
        row("b", "fp32", 0.8, 3.0),
        row("b", "int8", small_accuracy, small_p99),
    ]


def test_means_and_claims_by_hand():
    found = means(rows_of(0.82, 3.0))
    assert [(mean["precision"], mean["accuracy"], mean["off_delta_p99"]) for mean in found] == [
        ("fp32", pytest.approx(0.9), pytest.approx(2.0)),
        ("int8", pytest.approx(0.9), pytest.approx(2.1)),
    ]
    accuracy, p99 = claims(found)
    assert (accuracy["value"], p99["value"]) == (pytest.approx(0), pytest.approx(0.05))
    assert accuracy["holds"] and p99["holds"]
    assert claims(means([])) == []


@pytest.mark.parametrize(("accuracy", "p99", "holds"), [(0.79, 3.0, [False, True]), (0.82, 3.3, [True, False])])
def test_claims_that_do_not_hold_are_told(accuracy, p99, holds):
    rows = rows_of(accuracy, p99)
    assert [claim["holds"] for claim in claims(means(rows))] == holds
    assert markdown(rows).count("FAILS") == 1


def test_a_table_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "table.json").write_text("[]")
    with pytest.raises(OutputError, match="has no ledger"):
        PrecisionTable(tmp_path / "table.json")


TASKS = ["capitalize", "verb-gerund"]


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run the command on the tiny model; its teachers know no task, so each counts as capable unless told otherwise."""

    def command(*more: str) -> str:
        sets = [part for setting in [*SHORT, "phase2.eval.on_samples=4"] for part in ("--set", setting)]
        arguments = ["--model", str(tiny_path("llama")), "--slots", "3", "--teacher-min", "0", "--tasks", *TASKS, *sets]
        folders = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "table.json")]
        monkeypatch.setattr(sys, "argv", ["precision_table", *arguments, *folders, *more])
        precision_table.main()
        return capsys.readouterr()

    return command


def test_every_task_is_judged_once_and_kept(call, tmp_path):
    first = call()
    entries = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert [entry["task"] for entry in entries["tasks"]] == TASKS
    assert [mean["precision"] for mean in entries["means"]] == list(PRECISIONS)
    assert len(entries["claims"]) == 2
    for entry in entries["tasks"]:
        sizes = {row["precision"]: row["kv_bytes"] for row in entry["rows"]}
        assert sizes["fp32"] == 2 * sizes["bf16"] > 2 * sizes["int8"] > 2 * sizes["int4"]
    assert len(StateCache(tmp_path / "cache").entries()) == 2
    written = list(csv.DictReader((tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert [line["task"] for line in written] == [task for task in [*TASKS, "mean"] for _ in PRECISIONS]

    again = call()
    assert "judged" in first.err and "judged" not in again.err
    assert again.out == first.out
    assert json.loads((tmp_path / "table.json").read_text(encoding="utf-8")) == entries


def test_a_state_comes_from_the_cache(call, tmp_path):
    first = call("--tasks", "capitalize")
    (entry,) = StateCache(tmp_path / "cache").entries()
    made = entry.path.stat().st_ino
    (tmp_path / "table.jsonl").unlink()
    (tmp_path / "table.json").unlink()
    again = call("--tasks", "capitalize")
    assert entry.path.stat().st_ino == made, "no state was made anew"
    assert again.out == first.out


def test_a_weak_teacher_has_no_rows(call, tmp_path):
    shown = call("--teacher-min", "0.9", "--tasks", "capitalize")
    (entry,) = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))["tasks"]
    assert entry["teacher_accuracy"] < 0.9 and entry["rows"] == []
    assert "capitalize" not in shown.out


def test_a_task_that_cannot_be_judged_does_not_stop_the_others(call):
    with pytest.raises(SystemExit) as ended:
        call("--tasks", "no-such-task", "capitalize")
    assert ended.value.code == "precision_table: 1 of 2 tasks could not be judged"


def test_the_model_is_loaded_as_the_settings_say(tmp_path):
    parser = options("A table.", ("antonym",), "t.json")
    model = ["--model", str(tiny_path("llama")), "--set", "run.runtime.torch_dtype=bfloat16"]
    assert load(parser.parse_args(model)).dtype == torch.bfloat16
