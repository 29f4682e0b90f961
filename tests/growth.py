"""How the work of a function grows with what it is given, whatever else the machine does."""

import time
from collections.abc import Callable

# Below this, seconds are the clock's and the garbage collector's more than the function's.
_NOISE = 0.05


def grows_with_its_size(work: Callable[[int], object], size: int) -> bool:
    """True where four times the size costs about four times as much; what is quadratic costs sixteen times as much."""
    small, large = (min(_seconds(work, count) for _ in range(2)) for count in (size, 4 * size))
    return large < 12 * small + _NOISE


def _seconds(work: Callable[[int], object], size: int) -> float:
    """Processor time of this thread alone: other threads and other processes do not count."""
    began = time.thread_time()
    work(size)
    return time.thread_time() - began
