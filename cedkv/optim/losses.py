"""The three terms of the training loss. Divergences in nats, fp32."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.errors import NonFiniteError
from cedkv.metrics import cvar, kl


@dataclass(frozen=True)
class Losses:
    """One step's terms: L = lambda_on * on + lambda_off * off + lambda_str * str."""

    on: Float[Tensor, ""]
    off: Float[Tensor, ""]
    structure: Float[Tensor, ""]

    def total(self, lambda_on: float, lambda_off: float, lambda_str: float) -> Float[Tensor, ""]:
        return lambda_on * self.on + lambda_off * self.off + lambda_str * self.structure

    def require_finite(self, step: int) -> None:
        """Raise `NonFiniteError` naming the step and the term that is not a finite number."""
        for name, term in (("L_on", self.on), ("L_off", self.off), ("L_str", self.structure)):
            if not torch.isfinite(term):
                raise NonFiniteError(f"step {step}: {name} is {term.item()}; lower phase3.optim.lr or use float32")


def on_loss(student: Float[Tensor, "rows vocab"], teacher: Float[Tensor, "rows vocab"]) -> Float[Tensor, ""]:
    """Mean KL(teacher || student) over the rows read."""
    return kl(teacher, student).mean()


def off_loss(
    student: Float[Tensor, "texts vocab"], base: Float[Tensor, "texts vocab"], tail_fraction: float
) -> Float[Tensor, ""]:
    """CVaR of `Delta = KL(student || base)`: the mean over the worst `tail_fraction` of the texts."""
    return cvar(kl(student, base), tail_fraction)
