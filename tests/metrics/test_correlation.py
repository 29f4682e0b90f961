import math

import numpy as np
import pandas as pd
import pytest
import torch

from cedkv.metrics import pearson, spearman

BOTH = pytest.mark.parametrize("correlation", [pearson, spearman])


def test_pearson_by_hand():
    # deviations (-1, 0, 1) and (-1, 1, 0): 1 / (sqrt 2 * sqrt 2)
    assert pearson([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)


def test_spearman_by_hand():
    # 1 - 6 * sum(d^2) / (n (n^2 - 1)) with d = (0, 1, -1, 0)
    assert spearman([10, 20, 30, 40], [1, 7, 5, 900]) == pytest.approx(1 - 6 * 2 / (4 * 15))


@BOTH
def test_a_line_correlates_fully_and_a_reversed_one_negatively(correlation):
    x = [0.3, 0.1, 0.7, 0.2]
    assert correlation(x, [2 * value + 1 for value in x]) == pytest.approx(1.0)
    assert correlation(x, [-value for value in x]) == pytest.approx(-1.0)


def test_spearman_sees_a_monotone_curve_as_perfect_and_pearson_does_not():
    x = [1.0, 2.0, 3.0, 4.0, 5.0]
    y = [math.exp(4 * value) for value in x]
    assert spearman(x, y) == pytest.approx(1.0)
    assert pearson(x, y) < 0.8


def test_both_agree_with_numpy_and_pandas_also_under_ties():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 6, size=50).astype(float)
    y = x + generator.normal(scale=3.0, size=50).round()
    assert pearson(x.tolist(), y.tolist()) == pytest.approx(np.corrcoef(x, y)[0, 1])
    ranked = pd.DataFrame({"x": x, "y": y}).rank()
    assert spearman(x.tolist(), y.tolist()) == pytest.approx(ranked.corr().loc["x", "y"])


def test_ranking_ties_by_position_would_give_another_value():
    x, y = [1.0, 1.0, 2.0, 3.0], [4.0, 1.0, 2.0, 3.0]
    by_position = pearson([1, 2, 3, 4], [4, 1, 2, 3])
    assert spearman(x, y) == pytest.approx(pearson([1.5, 1.5, 3, 4], [4, 1, 2, 3]))
    assert spearman(x, y) != pytest.approx(by_position)


@BOTH
def test_tensors_and_lists_give_the_same_result(correlation):
    x, y = [1.0, 2.0, 4.0, 3.0], [2.0, 1.0, 5.0, 5.0]
    assert correlation(torch.tensor(x), torch.tensor(y, requires_grad=True)) == correlation(x, y)


@BOTH
def test_both_are_symmetric_and_stay_within_one(correlation):
    x, y = [0.1, 0.2, 0.3, 0.7], [0.3, 0.6, 0.9, 2.1]
    assert correlation(x, y) == correlation(y, x)
    assert abs(correlation(x, y)) <= 1.0


@BOTH
@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([], []),
        ([1.0, 2.0], [1.0, 2.0]),
        ([0.1] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.1] * 6),
        ([1.0, 2.0, 3.0], [1.0, math.nan, 3.0]),
    ],
)
def test_too_few_points_a_constant_or_a_nan_give_nan(correlation, x, y):
    assert math.isnan(correlation(x, y))


@BOTH
def test_series_of_different_length_are_refused(correlation):
    with pytest.raises(ValueError, match="3 and 4 points"):
        correlation([1, 2, 3], [1, 2, 3, 4])
