"""What changes from step to step: top-k, learning rate, and lambda_off by dual ascent."""

import pytest

from cedkv.config import DualSettings
from cedkv.optim.dual import DualLambda
from cedkv.optim.schedule import rate_at, top_k_at


def test_top_k_falls_in_equal_parts():
    assert [top_k_at(step, 8, (32, 16, 8, 4)) for step in range(8)] == [32, 32, 16, 16, 8, 8, 4, 4]
    assert [top_k_at(step, 5, (8, 2)) for step in range(5)] == [8, 8, 8, 2, 2]
    assert [top_k_at(step, 3, (4,)) for step in range(3)] == [4, 4, 4]


def test_a_training_shorter_than_its_schedule_still_ends_with_the_last_entry():
    assert [top_k_at(step, 2, (32, 16, 8, 4)) for step in range(2)] == [32, 4]
    assert top_k_at(0, 1, (32, 4)) == 4


def test_the_rate_falls_to_a_tenth():
    assert [rate_at(step, 5, "linear") for step in range(5)] == pytest.approx([1.0, 0.775, 0.55, 0.325, 0.1])
    # Half a cosine between 1 and 0.1: (1 + cos(pi/4)) / 2 = 0.853553.
    cosine = [1.0, 0.1 + 0.9 * 0.853553, 0.55, 0.1 + 0.9 * 0.146447, 0.1]
    assert [rate_at(step, 5, "cosine") for step in range(5)] == pytest.approx(cosine, abs=1e-6)
    assert rate_at(0, 1, "cosine") == 1.0


def dual(value: float = 1.0, bound: float = 2.0, **settings) -> DualLambda:
    plain = {"eta": 0.5, "ema_beta": 0.0, "update_every": 1, "delta_clip": 10.0, "lambda_max": 100.0}
    return DualLambda(DualSettings(**{**plain, **settings}), value, bound)


def trace(ascent: DualLambda, *metrics: float) -> list[float]:
    return [ascent.update(step, metric) for step, metric in enumerate(metrics)]


def test_lambda_rises_with_the_violation_and_falls_with_the_slack():
    # 1 + 0.5 * (3 - 2), then + 0.5 * (4 - 2), then + 0.5 * (1 - 2).
    assert trace(dual(), 3.0, 4.0, 1.0) == pytest.approx([1.5, 2.5, 2.0])


def test_it_never_falls_below_where_it_started():
    assert trace(dual(), 3.0, 0.0, 0.0, 2.5) == pytest.approx([1.5, 1.0, 1.0, 1.25])


def test_a_violation_counts_up_to_the_clip():
    assert trace(dual(delta_clip=0.4), 50.0, 50.0, -50.0) == pytest.approx([1.2, 1.4, 1.2])


def test_it_never_rises_above_the_maximum():
    assert trace(dual(lambda_max=1.7), 3.0, 3.0, 3.0) == pytest.approx([1.5, 1.7, 1.7])


def test_the_metric_is_smoothed():
    # Averages 4, then 0.75 * 4 + 0.25 * 0 = 3, then 0.75 * 3 + 0.25 * 4 = 3.25.
    assert trace(dual(ema_beta=0.75), 4.0, 0.0, 4.0) == pytest.approx([2.0, 2.5, 3.125])


def test_updates_come_every_so_many_ticks():
    ascent = dual(update_every=2)
    assert trace(ascent, 3.0, 3.0, 3.0, 3.0) == pytest.approx([1.0, 1.5, 1.5, 2.0])
    assert [row["step"] for row in ascent.trace] == [0, 1, 2, 3]


def test_switched_off_it_measures_and_changes_nothing():
    ascent = dual(enabled=False)
    assert trace(ascent, 9.0, 9.0) == [1.0, 1.0]
    assert [row["violation"] for row in ascent.trace] == pytest.approx([7.0, 7.0])


def test_the_trace_says_what_was_measured():
    ascent = dual(ema_beta=0.5)
    trace(ascent, 3.0, 5.0)
    assert ascent.trace == [
        {"step": 0, "metric": 3.0, "ema": 3.0, "violation": 1.0, "lambda_off": 1.5},
        {"step": 1, "metric": 5.0, "ema": 4.0, "violation": 2.0, "lambda_off": 2.5},
    ]
