"""Stage 1 of critic-wmtp: a value head that learns from right and wrong solutions what will come of a text."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from cedkv.events import TrainingTick
from cedkv.optim.loop import Losses, Measured, Objective, ParameterGroup

_WEIGHT_DECAY = 1e-2
# Of so many texts one tells how good the critic is on texts it has not learnt from.
_KEPT_APART = 4


@dataclass
class CriticObjective(Objective):
    """`V(s) = sigmoid(w (s - mean) / std + b)`, the probability that the solution turns out right, from every state.

    states : of all texts, the frozen model's, one row a token.
    right : 1 for states of a text whose solution is right, 0 for the others.
    apart : states of the texts that only measure.

    References
    ----------
    Cobbe et al. 2021, Training verifiers to solve math word problems: a value at every token.
    """

    states: Float[Tensor, "states hidden"]
    right: Float[Tensor, " states"]
    apart: Bool[Tensor, " states"]
    learning_rate: float
    name: str = "critic"
    remedy: str = "lower train.weights.critic_lr"
    mean: Float[Tensor, " hidden"] = field(init=False)
    std: Float[Tensor, " hidden"] = field(init=False)
    weight: Float[Tensor, " hidden"] = field(init=False)
    bias: Float[Tensor, "1"] = field(init=False)

    def __post_init__(self) -> None:
        self.mean, self.std = self.states.mean(0), self.states.std(0).clamp(min=1e-6)
        self.weight = torch.zeros_like(self.mean, requires_grad=True)
        self.bias = torch.zeros_like(self.mean[:1], requires_grad=True)

    @staticmethod
    def of_texts(
        right: Sequence[Float[Tensor, "_tokens hidden"]],
        wrong: Sequence[Float[Tensor, "_tokens hidden"]],
        learning_rate: float,
    ) -> "CriticObjective":
        """From the states of texts with their right and with a wrong solution, a pair of them at each place."""
        states, labels, apart = [], [], []
        for pair, both in enumerate(zip(right, wrong, strict=True)):
            for label, rows in zip((1.0, 0.0), both, strict=True):
                states.append(rows)
                labels.append(torch.full_like(rows[:, 0], label))
                apart.append(torch.full_like(rows[:, 0], pair % _KEPT_APART == _KEPT_APART - 1).bool())
        return CriticObjective(torch.cat(states), torch.cat(labels), torch.cat(apart), learning_rate)

    @property
    def groups(self) -> Sequence[ParameterGroup]:
        return [ParameterGroup([self.weight, self.bias], self.learning_rate)]

    def values(self, states: Float[Tensor, "tokens hidden"]) -> Float[Tensor, " tokens"]:
        """V after every token of a text."""
        return self._scores(states).sigmoid().detach()

    def losses(self, step: int) -> Losses:
        terms = {"bce": self._bce(~self.apart), "decay": _WEIGHT_DECAY * self.weight.square().sum()}
        return Losses(terms, terms["bce"] + terms["decay"])

    def measure(self, step: int) -> Measured:
        value = self._bce(self.apart if self.apart.any() else ~self.apart).item()
        return Measured(TrainingTick(self.name, step, value, {"critic/bce": value}), value)

    def _scores(self, states: Float[Tensor, "states hidden"]) -> Float[Tensor, " states"]:
        return (states - self.mean) / self.std @ self.weight + self.bias

    def _bce(self, rows: Bool[Tensor, " states"]) -> Float[Tensor, ""]:
        return binary_cross_entropy_with_logits(self._scores(self.states[rows]), self.right[rows])
