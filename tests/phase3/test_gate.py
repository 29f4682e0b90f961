"""The phase-3 gate as a whole: the same numbers again, cancelled half way, and failed by a bad student."""

import json
from contextlib import closing

import pytest

from cedkv.config import Phase3Thresholds, load_config
from cedkv.episodes import episode_from_config
from cedkv.errors import NonFiniteError
from cedkv.evaluation import Judge
from cedkv.events import Done, Opened, Progress, StepTrace, Tick, Warned
from cedkv.gate import iter_gate, run_gate
from cedkv.gate.kinds.mixture import exploration_milestones, phase3_criteria
from cedkv.methods import Workbench
from cedkv.state import KVPrefix
from tests.optim.trainings import events_of
from tests.phase3.conftest import GATE
from tests.tiny import tiny_lm

GOOD = {
    "base": {"kl_to_teacher": 8.0, "accuracy": 0.0, "whole_answer": 0.0},
    "teacher": {"accuracy": 0.9, "whole_answer": 0.8},
    "select": {"accuracy": 0.3, "kl_to_teacher": 3.0, "whole_answer": 0.2},
    "few_shot": {"accuracy": 0.5, "kl_to_teacher": 1.0, "whole_answer": 0.4},
    "free": {"accuracy": 0.9, "kl_to_teacher": 0.05, "whole_answer": 0.8},
    "ced": {"accuracy": 0.85, "kl_to_teacher": 0.1, "delta_on_mean": 6.0, "whole_answer": 0.75},
}
HARM = {view: {"stress": {"delta_p99": p99}} for view, p99 in {"ced": 1.5, "teacher": 2.5, "free": 1.0}.items()}
LIMITS = Phase3Thresholds(
    off_delta_p99_stress_max=2.0, acc_vs_teacher_min=0.9, kl_to_teacher_max=0.3, delta_on_min=0.5, overlap_max=0.9
)


def failed(ced: dict | None = None, p99: float = 1.5, overlap: float = 0.2) -> list[str]:
    on = {**GOOD, "ced": {**GOOD["ced"], **(ced or {})}}
    off = {**HARM, "ced": {"stress": {"delta_p99": p99}}}
    return [row.name for row in phase3_criteria(on, off, {"overlap_max": overlap}, LIMITS) if not row.passed]


def test_a_good_student_fails_nothing():
    assert failed() == []


@pytest.mark.parametrize(
    ("ced", "noticed_by"),
    [
        ({"accuracy": 0.80}, ["acc_ced_vs_teacher"]),
        ({"accuracy": 0.29}, ["acc_ced_vs_select", "acc_ced_vs_teacher"]),
        ({"whole_answer": 0.71}, ["whole_ced_vs_teacher"]),
        ({"kl_to_teacher": 0.31}, ["kl_to_teacher_ced"]),
        ({"kl_to_teacher": 3.1}, ["kl_ced_vs_select", "kl_to_teacher_ced"]),
        ({"delta_on_mean": 0.4}, ["delta_on_mean"]),
    ],
)
def test_each_on_criterion_notices(ced, noticed_by):
    assert failed(ced) == noticed_by


def test_a_first_token_that_format_decides_is_no_evidence():
    """The student opens the bracket like the teacher and then copies: whole answers alone show it."""
    on = {**GOOD, "ced": {**GOOD["ced"], "accuracy": 0.0, "whole_answer": 0.1}}
    rows = list(phase3_criteria(on, HARM, {"overlap_max": 0.2}, LIMITS, by_format=True))
    assert [row.name for row in rows if not row.passed] == ["whole_ced_vs_select", "whole_ced_vs_teacher"]
    assert not {row.name for row in rows} & {"acc_ced_vs_select", "acc_ced_vs_teacher"}


def test_harm_is_judged_by_the_threshold_and_by_the_demonstrations():
    assert failed(p99=2.1) == ["off_delta_p99_stress"]
    assert failed(p99=2.6) == ["off_delta_p99_stress", "off_delta_p99_stress_vs_teacher"]


def test_collapsed_slots_are_noticed():
    assert failed(overlap=0.95) == ["slot_overlap_max"]


def test_milestones_do_not_decide():
    milestones = {row["name"]: row["passed"] for row in exploration_milestones(GOOD, HARM)}
    assert milestones["acc_vs_few_shot"] and milestones["kl_015"]
    assert not milestones["acc_95_of_teacher"] and not milestones["kl_vs_free"]
    assert failed() == []


def test_a_second_run_gives_the_same_numbers(config, report, tmp_path):
    again = run_gate(config, 3, lm=tiny_lm("llama"), out=tmp_path).data
    for block in ("on", "off", "gate_a", "gate_b", "slots", "lambda_off_trace", "topk_trace", "phase3_loss_on"):
        assert again[block] == report.data[block], block


def test_a_cancelled_run_leaves_an_incomplete_report(config, tmp_path):
    with closing(iter_gate(config, 3, lm=tiny_lm("llama"), out=tmp_path)) as events:
        for event in events:
            if isinstance(event, Opened):
                folder = event.folder
            if isinstance(event, StepTrace):
                break
    left = json.loads((folder / "report_phase3.json").read_text(encoding="utf-8"))
    assert left["complete"] is False
    assert list(left["on"]) == ["base", "teacher", "select", "few_shot", "chunked"]


def test_a_run_that_is_told_to_stop_keeps_the_best_state_of_the_training_it_was_in(config, tmp_path):
    told = []
    for event in iter_gate(config, 3, lm=tiny_lm("llama"), out=tmp_path, stop=lambda: bool(events_of(told, Tick))):
        told.append(event)
    assert not events_of(told, Done)
    assert len(events_of(told, Tick)) == 1
    folder = events_of(told, Opened)[0].folder
    left = json.loads((folder / "report_phase3.json").read_text(encoding="utf-8"))
    assert left["complete"] is False
    assert "cancelled" in left["training"]["ced"]["stopped"]
    assert KVPrefix.load(folder / "artifacts" / "ced.safetensors").meta["metrics"]["off_p99"] >= 0
    assert not (folder / "artifacts" / "free.safetensors").exists()


def test_the_repeat_tells_its_steps_so_that_it_can_be_cancelled(events, config):
    told = [event.done for event in events_of(events, Progress) if event.stage == "repeating ced"]
    assert told == list(range(config.phase3.optim.steps))


def test_answers_that_are_no_numbers_are_an_error_a_user_can_read(config):
    lm = tiny_lm("llama")
    episode = episode_from_config(lm, config)
    bench = Workbench(lm, episode, config)
    judge = Judge(lm, episode, bench.teacher, {"stress": episode.off_set("stress", 9)})
    broken = bench.teacher.with_tensors(bench.teacher.keys, bench.teacher.values * float("inf"))
    with pytest.raises(NonFiniteError, match="Delta on the stress texts is not finite"):
        judge.delta_off(broken, "stress")


def test_a_training_that_stops_early_is_reported_with_its_reason(tmp_path):
    standing = ["phase3.optim.early_stop=true", "phase3.optim.patience=1", "phase3.optim.lr=1e-9"]
    events = list(iter_gate(load_config(None, [*GATE, *standing]), 3, lm=tiny_lm("llama"), out=tmp_path))
    data = events[-1].result.data
    assert data["training"]["ced"]["stopped"] == "step 4: 1 ticks without improvement"
    assert data["training"]["ced"]["steps"] == len(data["topk_trace"]) == 4
    assert data["complete"] is True
    assert events_of(events, Warned) == []
