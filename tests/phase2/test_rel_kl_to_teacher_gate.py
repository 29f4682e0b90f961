"""Gate B: `rel_kl_to_teacher` = KL(student||teacher) / (KL(base||teacher) + 1e-6), and its upper bound."""

import math

import pytest
import torch

from cedkv.config import Phase2Thresholds
from cedkv.evaluation import Judge
from cedkv.gate.kinds.copied import phase2_criteria
from cedkv.metrics import kl, rel_kl
from tests.gate.reports import OFF, ON


@pytest.fixture
def judge(bench_with) -> Judge:
    bench = bench_with()
    return Judge(bench.lm, bench.episode, bench.teacher, {})


def verdict(value: float, threshold: float):
    on = {**ON, "select": {**ON["select"], "rel_kl_to_teacher": value}}
    rows = phase2_criteria(on, OFF, Phase2Thresholds(rel_kl_to_teacher_max=threshold))
    return next(row for row in rows if row.name == "rel_kl_to_teacher_select")


def test_the_ratio_computed_by_hand():
    student, teacher, base = (torch.tensor([p, 1 - p]).log() for p in (0.5, 0.8, 0.2))
    student_teacher = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    base_teacher = 0.2 * math.log(0.2 / 0.8) + 0.8 * math.log(0.8 / 0.2)
    measured = rel_kl(kl(student, teacher), kl(base, teacher)).item()
    assert measured == pytest.approx(student_teacher / (base_teacher + 1e-6), rel=1e-5)


def test_the_teacher_scores_zero_and_the_base_one(judge):
    assert judge.on_scores(judge.teacher_on)["rel_kl_to_teacher"] == pytest.approx(0, abs=1e-6)
    assert judge.on_scores(judge.base_on)["rel_kl_to_teacher"] == pytest.approx(1, abs=1e-4)


def test_the_direction_is_student_to_teacher_over_means_of_queries(judge):
    student = judge.on_view(judge.teacher.without([1, 2, 3]))
    teacher, base = judge.teacher_on.first, judge.base_on.first
    expected = kl(student.first, teacher).mean() / (kl(base, teacher).mean() + 1e-6)
    other_direction = kl(teacher, student.first).mean() / (kl(teacher, base).mean() + 1e-6)
    measured = judge.on_scores(student)["rel_kl_to_teacher"]
    assert measured == pytest.approx(expected.item(), rel=1e-6)
    assert measured != pytest.approx(other_direction.item(), rel=1e-3)


@pytest.mark.parametrize(("value", "passes"), [(0.0, True), (0.6, True), (0.6001, False), (1.0, False)])
def test_the_gate_passes_up_to_the_bound_and_fails_above_it(value, passes):
    row = verdict(value, threshold=0.6)
    assert (row.gate, row.op, row.value, row.threshold, row.passed) == ("B", "<=", value, 0.6, passes)
