"""Gate B on the embedded model: the honest student passes, students broken in one way fail where they are broken."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cedkv.config import Phase2Thresholds, load_config
from cedkv.episodes import episode_from_config
from cedkv.evaluation import Judge
from cedkv.gate import run_gate
from cedkv.gate.kinds.copied import phase2_criteria
from cedkv.methods import Workbench, extract
from cedkv.methods.select import random_trial
from cedkv.state import KVPrefix
from tests.gate.reports import OFF, ON

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"


def failed(on: dict, off: dict, thresholds: Phase2Thresholds) -> list[str]:
    return [row.name for row in phase2_criteria(on, off, thresholds) if not row.passed]


@pytest.mark.timeout(900)  # a minute on two idle cores
def test_the_smoke_gate_passes(lm, tmp_path):
    report = run_gate(load_config(SMOKE), lm=lm, out=tmp_path)
    assert [row["name"] for row in report.data["gate_a"] + report.data["gate_b"] if not row["passed"]] == []
    assert report.passed
    assert report.data["on"]["teacher"]["accuracy"] > 0.7 > report.data["on"]["base"]["accuracy"]


@pytest.fixture(scope="module")
def judged(lm) -> Callable[[Callable[[KVPrefix], KVPrefix]], list[str]]:
    """The failed criteria of a changed student, beside the same base, teacher and random selection."""
    config = load_config(SMOKE, ["phase2.eval.off_samples=12"])
    episode = episode_from_config(lm, config)
    bench = Workbench(lm, episode, config)
    judge = Judge(lm, episode, bench.teacher, {"stress": episode.off_set("stress", 12)})

    def scores(prefix: KVPrefix) -> tuple[dict, dict]:
        off = judge.off_scores(judge.delta_off(prefix, "stress"), "stress")
        return judge.scores(prefix), {"stress": off}

    teacher = scores(bench.teacher)
    random = scores(random_trial(bench, 16, 0))
    student = extract(lm, episode, "select", 16, config).prefix

    def judged(change: Callable[[KVPrefix], KVPrefix]) -> list[str]:
        select = scores(change(student))
        on = {"select": select[0], "random": random[0]}
        return failed(on, {"select": select[1], "teacher": teacher[1]}, config.phase2.thresholds)

    return judged


def unchanged(student: KVPrefix) -> KVPrefix:
    return student


def noise(student: KVPrefix) -> KVPrefix:
    """Slots of the right size that mean nothing."""
    draw = torch.Generator().manual_seed(0)
    keys = torch.randn(student.keys.shape, generator=draw) * student.keys.std()
    return replace(student, keys=keys, values=torch.randn(keys.shape, generator=draw) * student.values.std())


def nothing(student: KVPrefix) -> KVPrefix:
    return student.without(list(range(student.slots)))


def overdone(student: KVPrefix) -> KVPrefix:
    """Values ten times too strong: the slots drown whatever text follows."""
    return replace(student, values=student.values * 10)


def test_the_selected_student_passes(judged):
    assert judged(unchanged) == []


@pytest.mark.parametrize(
    ("broken", "noticed_by"),
    [
        (noise, {"on_gain", "rel_kl_to_teacher_select"}),
        (nothing, {"on_gain", "delta_on_mean_select", "rel_kl_to_teacher_select"}),
        (overdone, {"on_gain", "off_delta_p99_select", "rel_kl_to_teacher_select"}),
    ],
)
def test_a_broken_student_fails(judged, broken, noticed_by):
    assert set(judged(broken)) >= noticed_by


def test_a_good_student_fails_no_criterion():
    assert failed(ON, OFF, Phase2Thresholds()) == []


@pytest.mark.parametrize(
    ("worse", "criterion"),
    [
        ({"gain": 0.29}, "on_gain"),
        ({"delta_on_mean": 0.49}, "delta_on_mean_select"),
        ({"rel_kl_to_teacher": 0.61}, "rel_kl_to_teacher_select"),
        ({"accuracy": 0.39}, "acc_select_vs_random"),
        ({"whole_answer": 0.29}, "whole_select_vs_random"),
    ],
)
def test_each_on_criterion_fails_by_itself(worse, criterion):
    assert failed({**ON, "select": {**ON["select"], **worse}}, OFF, Phase2Thresholds()) == [criterion]


def test_a_first_token_that_format_decides_is_no_evidence():
    """All views open the bracket; only whole answers tell whether the relation was applied."""
    bracketing = {view: {**scores, "accuracy": 1.0, "gain": 0.0} for view, scores in ON.items()}
    assert failed(bracketing, OFF, Phase2Thresholds()) == ["on_gain"]
    rows = list(phase2_criteria(bracketing, OFF, Phase2Thresholds(), by_format=True))
    assert not {row.name for row in rows} & {"on_gain", "acc_select_vs_random"}
    assert [row.name for row in rows if not row.passed] == []
    bracketing["select"] = {**bracketing["select"], "whole_answer": 0.29}
    rows = phase2_criteria(bracketing, OFF, Phase2Thresholds(), by_format=True)
    assert [row.name for row in rows if not row.passed] == ["whole_gain", "whole_select_vs_random"]


def test_the_off_criterion_reads_the_99th_percentile_of_the_stress_set():
    off = {**OFF, "select": {"stress": {"delta_p99": 4.01}}}
    assert failed(ON, off, Phase2Thresholds()) == ["off_delta_p99_select"]
