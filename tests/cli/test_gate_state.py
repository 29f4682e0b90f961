"""`gate --state`: a saved state is judged by the phase's own criteria, as it is or in another precision."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cedkv.cli import main
from cedkv.cli.options import noted_settings
from cedkv.state import KVPrefix
from tests.gate.reports import SMALL

SMALL_OPTIONS = [word for setting in SMALL if not setting.startswith("episode.") for word in ("--set", setting)]


@pytest.fixture(scope="module")
def made_of_a_task(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    source = ["--task", "capitalize", "--model", model, "--method", "select", "--no-cache"]
    assert main(["extract", *source, "--out", str(path)]) == 0
    return path


@pytest.fixture
def task_state(made_of_a_task, tmp_path) -> str:
    return str(shutil.copy(made_of_a_task, tmp_path))


def judged(cli, tmp_path, *arguments) -> dict:
    outcome = cli("gate", "--out", tmp_path / "runs", *SMALL_OPTIONS, *arguments)
    assert outcome.code in (0, 1), outcome.err
    folder = Path(outcome.out.splitlines()[-1])
    (report,) = folder.glob("report_phase*.json")
    return json.loads(report.read_text(encoding="utf-8"))


def test_a_saved_state_is_judged_with_the_relation_and_model_it_was_made_of(cli, task_state, tmp_path):
    report = judged(cli, tmp_path, "--state", task_state)
    assert report["complete"]
    assert report["state"] == {"file": task_state, "method": "select", "precision": None}
    assert (report["episode"]["task"], report["model"]["id"]) == ("capitalize", "llama")
    assert list(report["on"]) == ["base", "teacher", "few_shot", "state", "random", "few_shot_random"]
    assert [row["name"] for row in report["gate_b"]] == [
        "on_gain",
        "off_delta_p99_state",
        "delta_on_mean_state",
        "rel_kl_to_teacher_state",
        "acc_state_vs_random",
        "whole_state_vs_random",
    ]
    assert report["slots"]


def test_precision_changes_what_is_judged_and_little_else(cli, task_state, tmp_path):
    whole, coarse = (
        judged(cli, tmp_path, "--state", task_state, "--precision", precision) for precision in ("fp32", "int4")
    )
    assert coarse["state"]["precision"] == "int4"
    assert whole["on"]["teacher"] == coarse["on"]["teacher"]
    assert whole["on"]["state"]["kl_to_teacher"] != coarse["on"]["state"]["kl_to_teacher"]
    assert whole["on"]["state"]["kl_to_teacher"] == pytest.approx(coarse["on"]["state"]["kl_to_teacher"], rel=0.5)


def test_phase_3_trains_nothing_for_a_saved_state(cli, task_state, tmp_path):
    report = judged(cli, tmp_path, "--state", task_state, "--phase", "3")
    assert list(report["on"]) == ["base", "teacher", "select", "few_shot", "state", "random", "few_shot_random"]
    assert "training" not in report
    assert {"off_delta_p99_stress", "acc_state_vs_select"} <= {row["name"] for row in report["gate_b"]}


FEW_TEXTS = ["--set", "phase2.eval.off_samples=9", "--set", "phase2.eval.n_random_trials=1"]


@pytest.mark.parametrize("relation", ["task", "demos", "made_up"])
@pytest.mark.parametrize(("changed", "told"), [([], False), (["--set", "run.seed=3"], True)])
def test_a_state_is_judged_on_queries_it_was_not_trained_on_or_it_is_said(
    cli, model, demos_file, tmp_path, relation, changed, told
):
    """The same draw as at the extraction, in which training and evaluation are disjoint, whoever gave the seed."""
    path = tmp_path / "state.safetensors"
    source = {"task": ["--task", "capitalize", "--set", "phase2.eval.on_samples=5"], "demos": ["--demos", demos_file]}
    source["made_up"] = [*source["task"], "--set", "phase3.optim.made_up_queries=4"]
    seed = ["--set", "run.seed=1", "--set", "episode.on_train=12"]
    made = cli("extract", *source[relation], *seed, "--model", model, "--method", "select", "--out", path)
    assert made.code == 0, made.err
    outcome = cli("gate", "--state", path, *FEW_TEXTS, *changed, "--out", tmp_path / "runs")
    assert outcome.code in (0, 1), outcome.err
    assert ("was made in another episode" in outcome.err) is told


def test_a_state_whose_notes_name_settings_as_before_is_judged_the_same(task_state):
    state = KVPrefix.load(task_state)
    tree = dict(state.meta["settings"])
    run = tree.pop("run")
    before = {**tree, "phase2": {**tree["phase2"], **run}}
    assert noted_settings(replace(state, meta={**state.meta, "settings": before})) == noted_settings(state)


def test_a_state_is_judged_on_its_own_relation_alone(cli, task_state):
    error = cli("gate", "--state", task_state, "--tasks", "capitalize").error
    assert "leave out --tasks" in error


def test_precision_needs_a_state(cli):
    assert "--precision is for a saved state" in cli("gate", "--precision", "int8").error


def test_a_state_of_another_model_is_refused(cli, task_state, tmp_path):
    from tests.tiny import tiny_path

    outcome = cli("gate", "--state", task_state, "--model", tiny_path("qwen2"), "--out", tmp_path / "runs")
    assert "'fingerprint'" in outcome.error
    assert not (tmp_path / "runs").exists()
