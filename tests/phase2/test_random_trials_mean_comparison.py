"""Gate B: the selection must be at least as accurate as the mean of several random selections of its shape."""

import pytest
import torch

from cedkv.config import Config, Phase2Thresholds, load_config
from cedkv.evaluation import Judge
from cedkv.gate import run_gate
from cedkv.gate.kinds.copied import phase2_criteria
from cedkv.methods.select import random_trial
from tests.gate.reports import OFF, ON, SMALL


def verdict(select: float, trials: list[float]):
    random = {**ON["random"], "accuracy": sum(trials) / len(trials), "trials": trials}
    on = {**ON, "select": {**ON["select"], "accuracy": select}, "random": random}
    rows = phase2_criteria(on, OFF, Phase2Thresholds())
    return next(row for row in rows if row.name == "acc_select_vs_random")


def test_the_bar_is_the_mean_and_not_the_best_trial():
    row = verdict(select=0.5, trials=[0.9, 0.1, 0.5, 0.3, 0.2])
    assert (row.threshold, row.passed) == (pytest.approx(0.4), True)


@pytest.mark.parametrize(("select", "passes"), [(0.4, True), (0.39, False)])
def test_reaching_the_mean_is_enough(select, passes):
    assert verdict(select, [0.5, 0.3]).passed is passes


def test_five_trials_are_the_default():
    assert Config().phase2.eval.n_random_trials == 5


def test_trials_are_different_draws_and_each_is_the_same_again(bench_with):
    bench = bench_with()
    first, second, again = (random_trial(bench, 16, trial).mixture.weights for trial in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_another_seed_draws_other_trials(bench_with):
    bench, other = bench_with(), bench_with("run.seed=1")
    positions = [random_trial(b, 16, 0).mixture.weights.argmax(-1).tolist() for b in (bench, other)]
    assert positions[0] != positions[1]


def test_a_trial_has_the_shape_of_the_selection(bench_with):
    bench = bench_with("phase2.select.span_len=2", "phase2.select.span_budget=3")
    trial = random_trial(bench, 16, 0)
    assert trial.slots == 16
    assert trial.active.any(0).sum() <= 1 + 2 * 3, "the sink and at most three spans of two"


def test_the_report_holds_the_mean_of_the_trials_it_lists(bench_with, tmp_path):
    bench = bench_with()
    report = run_gate(load_config(None, [*SMALL, "phase2.eval.n_random_trials=3"]), lm=bench.lm, out=tmp_path).data
    judge = Judge(bench.lm, bench.episode, bench.teacher, {})
    expected = [judge.on_view(random_trial(bench, 16, trial)).accuracy for trial in range(3)]
    assert report["on"]["random"]["trials"] == expected
    assert report["on"]["random"]["accuracy"] == pytest.approx(sum(expected) / 3)
