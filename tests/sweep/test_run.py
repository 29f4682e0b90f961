"""A sweep as it runs: every cell once, also over interruptions; what fails is a row; nothing is ever lost."""

import csv
from contextlib import closing

import pytest

from cedkv.cli import main
from cedkv.errors import ModelError, OutputError
from cedkv.events import Noted, Progress, Warned
from cedkv.methods.pairs import PairLog
from cedkv.session.runs import Run
from cedkv.sweep.plan import read_plan
from cedkv.sweep.run import iter_sweep
from cedkv.sweep.tables import read_rows
from tests.sweep.conftest import SMALL, keys_in, small_settings, swept, write_sweep
from tests.tiny import tiny_lm

GRID = {"phase3.slots": [2, 3]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    file = write_sweep(folder, grid=GRID)
    return file, *swept(file, folder / "out")


def test_every_cell_is_a_row_and_all_files_tell_the_same(finished):
    _, sweep, _ = finished
    assert len(sweep.rows) == 6 == len(keys_in(sweep.folder)) == len(set(keys_in(sweep.folder)))
    assert read_rows(sweep.folder / "sweep.json") == sweep.rows
    with (sweep.folder / "sweep.csv").open(newline="") as lines:
        assert [line["method"] for line in csv.DictReader(lines)] == [row["method"] for row in sweep.rows]
    teacher = next(row for row in sweep.rows if row["method"] == "teacher")
    assert teacher["figures"]["kl_to_teacher"] == pytest.approx(0, abs=1e-6)
    assert (sweep.folder / "frontier.svg").is_file()
    html = (sweep.folder / "frontier.html").read_text()
    assert "Plotly.newPlot" in html and 'src="http' not in html, "the page needs nothing from elsewhere"


def test_a_cell_leaves_a_run_that_opens(finished):
    _, sweep, _ = finished
    (row,) = (row for row in sweep.rows if row["slots"] == 3)
    run = Run(sweep.folder / "runs" / row["run"])
    assert (run.student, run.report["run_id"], run.config.phase3.slots) == ("select", row["run"], 3)
    assert run.prefix("select").fingerprint == tiny_lm("llama").fingerprint


def test_trainings_of_a_sweep_leave_their_pairs(tmp_path):
    """A grid over tasks is how a pair log is filled that an extractor can learn from."""
    training = {"pair_log": str(tmp_path / "pairs"), "optim": {"steps": 1, "tick_every": 1}}
    settings = {**small_settings(), "phase3": {**SMALL["phase3"], **training}}
    tasks = ["singular-plural", "capitalize"]
    file = write_sweep(tmp_path, settings=settings, grid={"phase3.slots": [3]}, tasks=tasks, methods=["ced", "select"])
    swept(file, tmp_path / "out")
    assert sorted(row["task"] for row in PairLog(tmp_path / "pairs").rows().values()) == sorted(tasks)
    assert list(PairLog(tmp_path / "pairs").problems()) == []


def test_the_report_of_a_cell_is_of_the_episode_that_its_state_was_made_in(tmp_path):
    """The model makes up queries to train on, which the references have no part in."""
    optim = {"steps": 1, "tick_every": 1, "made_up_queries": 4}
    settings = {**small_settings(), "phase3": {**SMALL["phase3"], "optim": optim}}
    sweep, _ = swept(write_sweep(tmp_path, settings=settings, methods=["ced"]), tmp_path / "out")
    (row,) = (row for row in sweep.rows if row["slots"])
    run = Run(sweep.folder / "runs" / row["run"])
    assert "made_up" in run.report["episode"]["on_train_source"]


def test_without_resume_nothing_is_touched_and_with_it_nothing_is_judged_again(finished):
    file, sweep, _ = finished
    before = (sweep.folder / "rows.jsonl").read_bytes()
    with pytest.raises(OutputError, match="holds 6 rows of a sweep; add --resume"):
        swept(file, sweep.folder)
    again, events = swept(file, sweep.folder, resume=True)
    assert again.rows == sweep.rows
    assert [event.message for event in events if isinstance(event, Noted)] == ["6 of 6 cells are there already"]
    assert (sweep.folder / "rows.jsonl").read_bytes() == before


@pytest.mark.parametrize("stop", [GeneratorExit, KeyboardInterrupt])
def test_an_interrupted_sweep_keeps_its_rows_and_goes_on(file, tmp_path, stop):
    plan, out = read_plan(file(grid=GRID)), tmp_path / "out"
    with closing(iter_sweep(plan, out)) as events:
        for event in events:
            if isinstance(event, Progress) and event.stage == "judging cells" and event.done == 2:
                break
        if stop is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                events.throw(KeyboardInterrupt)
    first = read_rows(out / "sweep.json")
    assert len(first) == 2 == len(keys_in(out))
    sweep, _ = swept(file(grid=GRID), out, resume=True)
    assert sweep.rows[:2] == first
    assert len(sweep.rows) == 6 == len(keys_in(out)) == len(set(keys_in(out)))


def test_what_fails_is_a_row_and_is_tried_again(file, tmp_path, capsys):
    """The tiny tokenizer has no chat template."""
    changes, out = {"grid": {"episode.template": ["qa", "chat"]}}, tmp_path / "out"
    assert main(["sweep", "--config", str(file(**changes)), "--out", str(out)]) == 2
    shown = capsys.readouterr()
    assert "5 of 10 cells failed; the same command with --resume tries them again" in shown.out
    assert shown.out.splitlines()[-1] == str(out / "sweep.csv")
    rows = read_rows(out / "sweep.json")
    errors = {row["error"] for row in rows if row["settings"]["episode.template"] == "chat"}
    assert len(errors) == 1 and "has no chat template" in errors.pop()
    assert not any(row["error"] for row in rows if row["settings"]["episode.template"] == "qa")
    _, events = swept(file(**changes), out, resume=True)
    assert len([event for event in events if isinstance(event, Warned)]) == 5
    assert len(keys_in(out)) == 15, "those that failed, and only those, are tried again"


def test_a_model_that_cannot_be_had_ends_it_before_any_cell(file, tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        swept(file(list=[{"run.model.id": str(tmp_path / "nowhere")}]), tmp_path / "out")
    assert not (tmp_path / "out" / "rows.jsonl").exists()
