"""Which OFF data may steer a training."""

import pytest

from cedkv.config import OffDataSettings, Phase3Settings
from cedkv.errors import ConfigError
from cedkv.methods.policy import check_policy

LOOSE = ["off_constraint_source", "dual_metric_source"]


def settings(mode: str, **sources) -> Phase3Settings:
    return Phase3Settings(policy_mode=mode, off_data=OffDataSettings(**sources))


@pytest.mark.parametrize("mode", ["prod", "debug"])
@pytest.mark.parametrize("environment", [{}, {"CI": "true"}])
def test_the_fixed_stress_eval_is_always_allowed(mode, environment):
    assert check_policy(settings(mode), environment) == []


def test_production_is_the_default():
    assert Phase3Settings().policy_mode == "prod"


@pytest.mark.parametrize("source", LOOSE)
def test_production_refuses_anything_else(source):
    with pytest.raises(ConfigError, match=f"phase3.off_data.{source} = 'hard_pool' is refused, policy_mode is prod"):
        check_policy(settings("prod", **{source: "hard_pool"}), {})


@pytest.mark.parametrize("source", LOOSE)
def test_ci_forces_production(source):
    with pytest.raises(ConfigError, match="CI=true forces policy_mode prod"):
        check_policy(settings("debug", **{source: "hard_pool"}), {"CI": "true"})


@pytest.mark.parametrize("environment", [{}, {"CI": "false"}, {"CI": ""}])
def test_debugging_allows_it_and_says_so(environment):
    warnings = check_policy(settings("debug", **dict.fromkeys(LOOSE, "hard_pool")), environment)
    assert len(warnings) == 2
    for source, warning in zip(LOOSE, warnings, strict=True):
        assert f"phase3.off_data.{source} is not the fixed stress eval" in warning
