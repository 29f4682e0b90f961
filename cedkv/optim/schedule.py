"""How far a training descends, and what changes from step to step: top-k and learning rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Of every Adam (Kingma & Ba 2015) that trains something here.
BETAS = (0.9, 0.95)
_FINAL_RATE = 0.1


@dataclass(frozen=True)
class Descent:
    """Steps, how the learning rate falls to a tenth over them, and the largest gradient norm."""

    steps: int
    decay: str = "cosine"
    clip: float = 1.0


def top_k_at(step: int, steps: int, schedule: Sequence[int]) -> int:
    """The top-k of a step: the schedule's entries in equal parts of the training, the last one at the end."""
    return schedule[-1 if step + 1 >= steps else step * len(schedule) // steps]


def rate_at(step: int, steps: int, decay: str) -> float:
    """The learning rate of a step as a share of the first one's; it ends at a tenth."""
    progress = step / max(steps - 1, 1)
    fall = (1 + math.cos(math.pi * progress)) / 2 if decay == "cosine" else 1 - progress
    return _FINAL_RATE + (1 - _FINAL_RATE) * fall
