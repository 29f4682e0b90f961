"""Layer scopes: which layers a setting speaks of."""

import pytest

from cedkv.errors import ConfigError
from cedkv.lm.layers import layers_in_scope

RANKING = [5, 2, 7, 0, 1, 3, 4, 6]


@pytest.mark.parametrize(
    ("scope", "layers"),
    [
        ("all", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("top25", [2, 5]),
        ("last_1", [7]),
        ("last_3", [5, 6, 7]),
        ("last_8", [0, 1, 2, 3, 4, 5, 6, 7]),
        ([3], [3]),
        ([6, 1, 1], [1, 6]),
        ([-1, 0], [0, 7]),
        ([-1, 7], [7]),
    ],
)
def test_scope_names_layers_in_ascending_order(scope, layers):
    assert layers_in_scope(scope, 8, RANKING) == layers


@pytest.mark.parametrize(("layers", "count"), [(1, 1), (2, 1), (4, 1), (12, 3), (30, 8)])
def test_top25_is_a_quarter_and_at_least_one(layers, count):
    assert len(layers_in_scope("top25", layers, list(range(layers)))) == count


@pytest.mark.parametrize("scope", ["top50", "last_0", "last_9", "last_", "last_-1", "ALL", "", "7"])
def test_unknown_scope_is_refused_by_name(scope):
    with pytest.raises(ConfigError, match="is unknown; use all, top25, last_n with n from 1 to 8") as caught:
        layers_in_scope(scope, 8, RANKING)
    assert repr(scope) in str(caught.value)


@pytest.mark.parametrize("scope", [[8], [-9], [0, 99], []])
def test_layers_the_model_does_not_have_are_refused(scope):
    with pytest.raises(ConfigError, match="layers from 0 to 7"):
        layers_in_scope(scope, 8, RANKING)
