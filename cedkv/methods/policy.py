"""Which OFF data may steer a training: frozen data in production, anything in debugging, and said so."""

from collections.abc import Mapping

from cedkv.config import Phase3Settings
from cedkv.errors import ConfigError

_STEERING = ("off_constraint_source", "dual_metric_source")


def check_policy(settings: Phase3Settings, environment: Mapping[str, str]) -> list[str]:
    """Warnings for a training that is allowed.

    Raises
    ------
    ConfigError
        In `prod` mode, which `CI=true` forces, the OFF constraint or the dual metric is not the fixed stress eval.
    """
    forced = environment.get("CI") == "true"
    mode = "prod" if forced else settings.policy_mode
    loose = [name for name in _STEERING if getattr(settings.off_data, name) != "fixed_stress"]
    if not loose:
        return []
    if mode == "prod":
        why = "CI=true forces policy_mode prod" if forced else "policy_mode is prod"
        source = getattr(settings.off_data, loose[0])
        raise ConfigError(f"phase3.off_data.{loose[0]} = {source!r} is refused, {why}; use 'fixed_stress'")
    not_frozen = "is not the fixed stress eval; do not quote this run"
    return [f"policy_mode debug: phase3.off_data.{name} {not_frozen}" for name in loose]
