"""How far a training descends, and what changes from step to step: top-k and learning rate."""

import math
import random
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


def batch_order(items: int, batch: int, step: int, seed: int) -> list[int]:
    """Which items a step is trained on: each of them once, in an order of the seed's, before any comes again.

    A function of the step alone, so a training that is taken up again sees the same batches.
    """
    places = range(step * batch, (step + 1) * batch)
    orders: dict[int, list[int]] = {}
    for epoch in {place // items for place in places}:
        orders[epoch] = random.Random(f"{seed} {epoch}").sample(range(items), items)
    return [orders[place // items][place % items] for place in places]
