"""Dual ascent on lambda_off: the OFF term weighs more while the OFF constraint is violated."""

from dataclasses import dataclass, field

from cedkv.config import DualSettings


@dataclass
class DualLambda:
    """lambda_off <- clip(lambda_off + eta * clip(ema - bound)); it never falls below its starting value.

    bound : the constraint on the metric (stress p99 of Delta, nats).
    """

    settings: DualSettings
    value: float
    bound: float
    floor: float = field(init=False)
    ema: float | None = None
    ticks: int = 0
    trace: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.floor = self.value

    def update(self, step: int, metric: float) -> float:
        """Take one measurement of the constrained metric and return the new lambda_off."""
        beta = self.settings.ema_beta
        self.ema = metric if self.ema is None else beta * self.ema + (1 - beta) * metric
        self.ticks += 1
        violation = max(-self.settings.delta_clip, min(self.ema - self.bound, self.settings.delta_clip))
        if self.settings.enabled and self.ticks % self.settings.update_every == 0:
            raised = self.value + self.settings.eta * violation
            self.value = max(self.floor, min(raised, self.settings.lambda_max))
        self.trace.append(
            {"step": step, "metric": metric, "ema": self.ema, "violation": violation, "lambda_off": self.value}
        )
        return self.value
