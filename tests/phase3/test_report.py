"""The phase-3 report: every view beside the student, what the training left, and verdicts that follow from numbers."""

import json
import math

import numpy as np
import pytest

from cedkv.events import GateCriterion, StepTrace, Tick
from cedkv.gate.kinds.mixture import KIND
from cedkv.gate.trained import proxy_correlations
from cedkv.harm import YARDSTICKS
from cedkv.state import KVPrefix
from tests.gate.reports import records, unnamed
from tests.optim.trainings import SLOTS, events_of

VIEWS = ["base", "teacher", "select", "few_shot", "chunked", "ced", "free", "random"]
TRAINED = ("ced", "free")


@pytest.fixture(scope="module")
def data(report) -> dict:
    """The report as a reader finds it on the disk."""
    return json.loads((report.folder / "report_phase3.json").read_text(encoding="utf-8"))


def artifact(report, name: str):
    return json.loads((report.folder / "artifacts" / f"{name}.json").read_text(encoding="utf-8"))


def test_it_has_every_field_of_the_contract(data):
    assert data.keys() >= {
        "gate_a", "gate_b", "passed", "run_id", "seed", "model", "episode", "on", "off", "collapse", "role_mass",
        "slots", "timing", "versions", "off_delta_p99_stress", "off_delta_p99_typical", "phase3_loss_on",
        "phase3_loss_off", "phase3_loss_str", "lambda_off_trace", "topk_trace", "correlations", "success_criteria",
        "exploration_milestones", "training",
    }  # fmt: skip
    assert (data["phase"], data["slots_budget"], data["complete"]) == (3, SLOTS, True)


def test_its_type_names_every_field_but_the_kinds_own(data):
    own = {*KIND.summary(data)}
    assert unnamed({name: value for name, value in data.items() if name not in own}) == []


def test_every_view_is_judged(data):
    assert [*data["on"], *YARDSTICKS] == list(data["off"])
    assert data["on"].keys() >= set(VIEWS)
    for view in data["on"]:
        assert data["on"][view].keys() >= {"accuracy", "gain", "kl_to_teacher", "delta_on_mean"}
        assert {name: data["off"][view][name]["count"] for name in ("typical", "stress")} == {
            "typical": 10,
            "stress": 12,
        }


def test_the_students_own_figures_are_at_the_top(data):
    assert data["off_delta_p99_stress"] == data["off"]["ced"]["stress"]["delta_p99"]
    assert data["off_delta_p99_typical"] == data["off"]["ced"]["typical"]["delta_p99"]


def test_the_last_losses_are_those_of_the_last_step(report, data):
    last = artifact(report, "phase3_training_ced")["steps"][-1]
    for name in ("on", "off", "str"):
        assert data[f"phase3_loss_{name}"] == last[f"loss_{name}"]
        assert math.isfinite(last[f"loss_{name}"])


def test_the_traces_follow_the_training(report, data):
    assert data["topk_trace"] == [8, 8, 8, 8, 3, 3, 3, 3]
    training = artifact(report, "phase3_training_ced")
    assert data["lambda_off_trace"] == [row["lambda_off"] for row in training["lambda_off"]]
    assert len(data["lambda_off_trace"]) == 4
    assert data["lambda_off_trace"][-1] > 0.5, "the bound is broken on purpose, so lambda rises"


@pytest.mark.parametrize("method", TRAINED)
def test_both_trained_methods_leave_their_training(report, data, method):
    training = artifact(report, f"phase3_training_{method}")
    assert data["training"][method]["steps"] == len(training["steps"]) == 8
    assert data["training"][method]["stopped"] == ""
    assert [tick["step"] for tick in training["ticks"]] == [1, 3, 5, 7]
    for tick in training["ticks"]:
        assert 0 <= tick["eval_accuracy"] <= 1
        assert tick["eval_kl"] >= 0


def test_role_mass_is_told_per_tick_slot_and_layer(report, data):
    ticks = artifact(report, "phase3_training_ced")["ticks"]
    assert [row["step"] for row in data["training"]["ced"]["role_mass_trace"]] == [1, 3, 5, 7]
    for tick in ticks:
        assert [len(layer) for layer in tick["slot_role_mass"]] == [SLOTS] * 4
        assert sum(tick["role_mass"].values()) == pytest.approx(1, abs=1e-5)
    assert sum(data["role_mass"]["mean"].values()) == pytest.approx(1, abs=1e-5)


def test_violated_ticks_are_written_to_the_warn_trace(report):
    warned = artifact(report, "phase3_constraint_warn_trace")
    training = artifact(report, "phase3_training_ced")
    counted = {tick["step"]: tick["stress_p99"] for tick in training["ticks"]}
    violated = [row for row in training["lambda_off"] if row["violation"] > 0]
    assert warned == [{**row, "stress_p99": counted[row["step"]]} for row in violated]
    assert len(warned) == 4


def test_a_tick_counts_as_the_gate_does(report, data):
    """Ticks read all stress texts here, in the precision of the gate."""
    training = artifact(report, "phase3_training_ced")
    (kept,) = [tick for tick in training["ticks"] if tick["step"] == training["best_step"]]
    assert kept["stress_p99"] == pytest.approx(data["off"]["ced"]["stress"]["delta_p99"], rel=1e-3)


def test_correlations_name_proxy_and_metric(data):
    correlations = data["correlations"]
    assert correlations.keys() >= {"loss_on~eval_kl", "loss_on~eval_accuracy", "loss_off~stress_p99"}


def test_a_correlation_is_that_of_the_steps_and_ticks_the_training_left(report, data):
    left = artifact(report, "phase3_training_ced")
    losses, ticks = [step["loss_on"] for step in left["steps"]], [tick["step"] for tick in left["ticks"]]
    assert (len(losses), ticks) == (8, [1, 3, 5, 7])
    means = [sum(losses[step - 1 : step + 1]) / 2 for step in ticks]
    by_hand = np.corrcoef(means, [tick["train_kl"] for tick in left["ticks"]])[0, 1]
    assert data["correlations"]["loss_on~train_kl"] == pytest.approx(by_hand)


def test_a_proxy_is_averaged_since_the_last_tick():
    steps = [{"step": step, "loss_on": loss, "loss_off": 1.0} for step, loss in enumerate([3, 1, 5, 5, 9, 9])]
    metrics = [{"step": 1, "eval_kl": 2.0}, {"step": 3, "eval_kl": 5.0}, {"step": 5, "eval_kl": 9.0}]
    ticks = [{**row, "eval_accuracy": None, "train_kl": -row["eval_kl"], "stress_p99": 1.0} for row in metrics]
    correlations = proxy_correlations(steps, ticks)
    assert correlations["loss_on~eval_kl"] == pytest.approx(1)
    assert correlations["loss_on~train_kl"] == pytest.approx(-1)
    assert correlations["loss_on~eval_accuracy"] is None, "not measured"
    assert correlations["loss_off~stress_p99"] is None, "constant"


def test_what_decides_and_what_is_watched_are_apart(data):
    assert data["success_criteria"] == data["gate_b"]
    decides = {row["name"] for row in data["success_criteria"]}
    watched = {row["name"] for row in data["exploration_milestones"]}
    assert decides >= {"off_delta_p99_stress", "acc_ced_vs_select", "kl_ced_vs_select", "delta_on_mean"}
    assert watched and not watched & decides
    assert data["passed"] is all(row["passed"] for row in data["gate_a"] + data["gate_b"])


def test_every_verdict_follows_from_its_value_and_threshold(data):
    for row in data["gate_a"] + data["gate_b"] + data["exploration_milestones"]:
        holds = row["value"] <= row["threshold"] if row["op"] == "<=" else row["value"] >= row["threshold"]
        assert row["passed"] is holds, row["name"]


def test_the_stress_threshold_is_no_looser_than_the_demonstrations_themselves(data):
    rows = {row["name"]: row for row in data["gate_b"]}
    assert rows["off_delta_p99_stress_vs_teacher"]["threshold"] == data["off"]["teacher"]["stress"]["delta_p99"]
    assert "the demonstrations score" in rows["off_delta_p99_stress"]["about"]


def test_the_plumbing_is_sound_and_repeats_agree(data):
    assert [row["name"] for row in data["gate_a"] if not row["passed"]] == []
    assert "repeat_tolerance" in [row["name"] for row in data["gate_a"]]


def test_the_slots_can_be_read_back(report, data):
    assert len(data["slots"]) == SLOTS
    state = KVPrefix.load(report.folder / "artifacts" / "ced.safetensors", data["model"]["fingerprint"])
    assert state.slots == SLOTS
    assert KVPrefix.load(report.folder / "artifacts" / "free.safetensors").mixture is None


def test_timing_has_a_part_for_every_stage(data):
    assert data["timing"].keys() >= {"episode", "extract_ced", "extract_free", "judge_ced", "judge_free", "gate_a"}
    assert all(seconds >= 0 for seconds in data["timing"].values())
    assert data["training"]["ced"]["seconds_per_step"] > 0


def test_the_run_record_repeats_the_report(report, data):
    *_, last = records(report.folder)
    assert last["type"] == "run"
    for view in VIEWS:
        assert last[f"phase3_on_acc_{view}"] == data["on"][view]["accuracy"]
    assert last["phase3_gateB_pass"] is all(row["passed"] for row in data["gate_b"])


def test_the_events_tell_the_training_while_it_runs(events, data):
    assert {event.method for event in events_of(events, StepTrace)} == set(TRAINED)
    assert len(events_of(events, StepTrace)) == 16
    assert len(events_of(events, Tick)) == 8
    told = [event.name for event in events_of(events, GateCriterion)]
    assert told == [row["name"] for row in data["gate_a"] + data["gate_b"]]
