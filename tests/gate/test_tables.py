"""A table of several gates: a row per task and method, taken up where it stopped, and never lost to one bad task."""

import csv
import json
from contextlib import closing
from pathlib import Path

import pytest

from cedkv.cli import main
from cedkv.config import load_config
from cedkv.errors import ConfigError, OutputError
from cedkv.events import Done, GateCriterion, Opened, Progress, Warned
from cedkv.gate import run_gate
from cedkv.gate.tables import COLUMNS, GateTable, config_hash, for_task, iter_table
from cedkv.harm import YARDSTICKS
from tests.gate.conftest import SMALL
from tests.tiny import PAIRS, tiny_lm, tiny_path

TASKS = ["present-past", "capitalize"]
VIEWS = {"base", "teacher", "select", "few_shot", "random"}


def table_of(config, tasks, out, **options) -> tuple[GateTable, list]:
    *events, done = iter_table(config, tasks, lm=tiny_lm("llama"), out=out, **options)
    assert isinstance(done, Done)
    return done.result, events


def judged(events: list) -> list[str]:
    """The tasks whose gate was really run."""
    return [event.stage.removeprefix("task ") for event in events if _is_task(event)]


def _is_task(event) -> bool:
    return isinstance(event, Progress) and event.stage.startswith("task ")


def read_csv(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(small_config, tmp_path_factory) -> tuple[GateTable, list]:
    return table_of(small_config, TASKS, tmp_path_factory.mktemp("table"))


def test_there_is_a_row_for_every_task_and_method(finished):
    table, events = finished
    assert judged(events) == TASKS
    for task in TASKS:
        assert {row["method"] for row in table.rows if row["task"] == task} >= VIEWS
    assert [row["task"] for row in table.rows] == sorted((row["task"] for row in table.rows), key=TASKS.index)


def test_both_files_hold_the_same_rows(finished):
    table, _ = finished
    stored = json.loads((table.folder / "table.json").read_text(encoding="utf-8"))
    assert stored == {"columns": list(COLUMNS), "rows": table.rows}
    lines = read_csv(table.folder)
    assert len(lines) == len(table.rows)
    for line, row in zip(lines, table.rows, strict=True):
        assert line == {name: "" if value is None else str(value) for name, value in row.items()}


def test_a_row_repeats_the_runs_own_report(finished, small_config, tmp_path):
    table, _ = finished
    report = run_gate(for_task(small_config, "capitalize"), lm=tiny_lm("llama"), out=tmp_path).data
    for row in table.rows:
        if row["task"] == "capitalize" and row["method"] not in YARDSTICKS:
            on, stress = report["on"][row["method"]], report["off"][row["method"]]["stress"]
            for name in ("accuracy", "whole_answer", "answer_logprob", "kl_to_teacher"):
                assert row[name] == on[name]
            assert (row["off_delta_mean"], row["off_delta_max"]) == (stress["delta_mean"], stress["delta_max"])
            assert row["passed"] == report["passed"]
            assert (table.folder / row["run_id"] / "report_phase2.json").is_file()


def test_the_gates_events_pass_through(finished):
    _, events = finished
    assert len([event for event in events if isinstance(event, Opened)]) == 2
    assert any(isinstance(event, GateCriterion) for event in events)
    assert not any(isinstance(event, Done) for event in events)


def test_a_finished_table_is_not_run_again(finished, small_config):
    table, _ = finished
    again, events = table_of(small_config, TASKS, table.folder)
    assert events == []
    assert again.rows == table.rows


def test_an_interrupted_table_goes_on_where_it_stopped(small_config, tmp_path):
    with closing(iter_table(small_config, TASKS, lm=tiny_lm("llama"), out=tmp_path)) as events:
        for event in events:
            if _is_task(event) and event.done == 1:
                break
    assert {row["task"] for row in json.loads((tmp_path / "table.json").read_text())["rows"]} == {TASKS[0]}
    table, events = table_of(small_config, TASKS, tmp_path)
    assert judged(events) == [TASKS[1]]
    assert {row["task"] for row in table.rows} == set(TASKS)


def test_other_settings_are_run_again_and_replace_the_rows(small_config, tmp_path):
    before, _ = table_of(small_config, TASKS[:1], tmp_path)
    changed = load_config(None, [*SMALL, "phase2.prefix_len=4"])
    after, events = table_of(changed, TASKS[:1], tmp_path)
    assert judged(events) == TASKS[:1]
    assert len(after.rows) == len(before.rows)
    assert {row["slots"] for row in after.rows} == {4}


def test_another_model_under_the_same_name_is_judged_anew(finished, small_config, tmp_path):
    table_of(small_config, TASKS[:1], tmp_path)
    other = tiny_lm("qwen2")
    assert other.fingerprint != tiny_lm("llama").fingerprint
    events = list(iter_table(small_config, TASKS[:1], lm=other, out=tmp_path))
    assert judged(events) == TASKS[:1]


def test_more_tasks_join_the_table(finished, small_config, tmp_path):
    table_of(small_config, TASKS[:1], tmp_path)
    table, events = table_of(small_config, TASKS[1:], tmp_path)
    assert judged(events) == TASKS[1:]
    assert {row["task"] for row in table.rows} == set(TASKS)
    assert {row["task"] for row in table.asked} == set(TASKS[1:])


def test_a_task_that_fails_is_a_row_and_the_table_goes_on(small_config, tmp_path):
    missing = str(tmp_path / "missing.json")
    table, events = table_of(small_config, [missing, TASKS[0]], tmp_path)
    first, *others = table.rows
    assert (first["task"], first["method"], first["passed"]) == (missing, None, False)
    assert "cannot read the task file" in first["error"]
    assert {row["task"] for row in others} == {TASKS[0]}
    assert [event.message for event in events if isinstance(event, Warned)] == [f"task {missing}: {first['error']}"]
    assert not table.passed
    _, again = table_of(small_config, [missing, TASKS[0]], tmp_path)
    assert judged(again) == [missing], "what failed is tried again"


def test_a_task_file_is_a_task(small_config, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([{"input": source, "output": target} for source, target in PAIRS]), encoding="utf-8")
    config = for_task(load_config(None, ["episode.demos_file=x.txt"]), str(file)).episode
    assert (config.task_file, config.demos_file) == (str(file), None)
    small = load_config(None, [*SMALL, "episode.on_train=1", "phase2.eval.on_samples=2"])
    table, _ = table_of(small, [str(file)], tmp_path)
    assert {row["error"] for row in table.rows} == {None}


def test_the_hash_names_settings_task_and_phase():
    config = load_config(None, SMALL)
    hashes = [
        config_hash(for_task(config, "capitalize"), 2),
        config_hash(for_task(config, "capitalize"), 3),
        config_hash(for_task(config, "antonym"), 2),
        config_hash(for_task(load_config(None, [*SMALL, "run.seed=1"]), "capitalize"), 2),
    ]
    assert len(set(hashes)) == 4
    assert hashes[0] == config_hash(for_task(load_config(None, SMALL), "capitalize"), 2)


def test_the_hash_names_what_a_task_file_says_and_the_code(tmp_path, monkeypatch):
    """A row of an edited file or of other code is measured again."""
    file = tmp_path / "mine.json"
    config, hashes = for_task(load_config(None, SMALL), str(file)), []
    for text in ("[]", "[1]"):
        file.write_text(text, encoding="utf-8")
        hashes.append(config_hash(config, 2))
    monkeypatch.setattr("cedkv.ledger.code_fingerprint", lambda: "other code")
    assert len({*hashes, config_hash(config, 2)}) == 3


def test_no_task_is_an_error(small_config, tmp_path):
    with pytest.raises(ConfigError, match="no task is named"):
        list(iter_table(small_config, [], lm=tiny_lm("llama"), out=tmp_path))


@pytest.mark.parametrize(("name", "content"), [("table.json", '{"rows": []}'), ("table.jsonl", "my notes\nof today\n")])
def test_a_table_of_something_else_is_not_overwritten(small_config, tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(OutputError, match="choose another"):
        list(iter_table(small_config, TASKS, lm=tiny_lm("llama"), out=tmp_path))
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [(name, content)]


def test_settings_that_were_judged_before_are_found_again(small_config, tmp_path):
    first, _ = table_of(small_config, TASKS[:1], tmp_path)
    table_of(load_config(None, [*SMALL, "phase2.prefix_len=4"]), TASKS[:1], tmp_path)
    again, events = table_of(small_config, TASKS[:1], tmp_path)
    assert events == []
    assert again.rows == first.rows == json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))["rows"]


def test_the_command_prints_the_table_and_fails_with_its_gates(tmp_path, capsys):
    overrides = [flag for override in SMALL for flag in ("--set", override)]
    model = ["--model", str(tiny_path("llama"))]
    code = main(["gate", "--tasks", "capitalize, no-such-task", "--out", str(tmp_path), *model, *overrides])
    shown = capsys.readouterr()
    assert code == 2, "a task that cannot be judged is an error, whatever the others' verdicts"
    assert "capitalize" in shown.out
    assert "ERROR no shipped task is called 'no-such-task'" in shown.out
    assert "2 of 2 gates fail." in shown.out
    assert shown.out.splitlines()[-1] == str(tmp_path / "table.csv")
    assert "no-such-task" in shown.err
