"""A training small enough to be worked out by hand: two numbers that want to be elsewhere."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cedkv.events import TrainingTick
from cedkv.optim.checkpoint import Memory
from cedkv.optim.loop import Losses, Measured, Objective, ParameterGroup


def number(value: float) -> Tensor:
    return torch.tensor([value], requires_grad=True)


@dataclass
class Pulls(Objective):
    """`x` is pulled to 1 and `y` to -1, each at its own rate; some noise makes every step another one."""

    name: str = "pulls"
    remedy: str = "pull less"
    x: Tensor = field(default_factory=lambda: number(0.0))
    y: Tensor = field(default_factory=lambda: number(0.0))
    rates: tuple[float, float] = (0.1, 0.02)
    noise: float = 0.0
    refreshed: list[int] = field(default_factory=list)
    mean: float = 0.0

    @property
    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup([self.x], self.rates[0]), ParameterGroup([self.y], self.rates[1])]

    def losses(self, step: int) -> Losses:
        away = self.noise * torch.randn(1)
        terms = {"x": (self.x - 1 + away).square().sum(), "y": (self.y + 1).square().sum()}
        return Losses(terms, terms["x"] + terms["y"])

    def measure(self, step: int) -> Measured:
        value = (self.x.item() - 1) ** 2 + (self.y.item() + 1) ** 2
        return Measured(TrainingTick(self.name, step, value, {"x": self.x.item()}), value)

    def refresh(self, step: int) -> None:
        self.refreshed.append(step)

    def updated(self, step: int) -> None:
        self.mean = 0.5 * self.mean + 0.5 * self.x.item()

    def memory(self) -> Memory:
        return Memory(plain={"mean": self.mean})

    def recall(self, memory: Memory) -> None:
        self.mean = memory.plain["mean"]
