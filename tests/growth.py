"""How the work of a function grows with what it is given, whatever else the machine does."""

import time
from collections.abc import Callable

# Below this, seconds are the clock's and the garbage collector's more than the function's.
_NOISE = 0.05
# What is linear costs as many times as much, what is quadratic the square of it; a busy machine can make a measured
# time three times as long, so the line between them, half-way by ratio, must be further from both than that.
_LARGER = 16
_LIMIT = _LARGER**1.5


def grows_with_its_size(work: Callable[[int], object], size: int) -> bool:
    """True where sixteen times the size costs about sixteen times as much, and not the square of it.

    The small size is run oftener: it takes little, and what disturbs a short while disturbs some runs only.
    """
    small = min(_seconds(work, size) for _ in range(7))
    large = min(_seconds(work, _LARGER * size) for _ in range(2))
    return large < _LIMIT * small + _NOISE


def _seconds(work: Callable[[int], object], size: int) -> float:
    """Processor time of this thread alone: other threads and other processes do not count."""
    began = time.thread_time()
    work(size)
    return time.thread_time() - began
