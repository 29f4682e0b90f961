"""Whether torch's threads spin or sleep while they wait for each other. OpenMP reads it when torch is imported."""

import os
import time
from collections.abc import MutableMapping
from pathlib import Path

# The file in which Linux counts what all cores did, in ticks.
STAT = Path("/proc/stat")
_LOOK = 0.1


def settle_waiting(environment: MutableMapping[str, str] = os.environ, stat: Path = STAT) -> None:
    """Let threads sleep (`OMP_WAIT_POLICY=PASSIVE`) where other programs need a core, and spin where none does.

    Spinning is torch's default. On two quiet cores an extraction takes 18 s with it and 27 s without; beside another
    one 146 s (already with a short spin, GOMP_SPINCOUNT=20000) and 34 s without. What the user has set stays as it is.
    """
    if "OMP_WAIT_POLICY" not in environment and idle_share(stat) < 0.8:
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def idle_share(stat: Path = STAT) -> float:
    """Which part of all cores' time was idle during a short look; 0 where the system does not say."""
    try:
        before = _ticks(stat)
        time.sleep(_LOOK)
        spent = [after - start for start, after in zip(before, _ticks(stat), strict=True)]
    except OSError:
        return 0.0
    return spent[3] / max(sum(spent), 1)


def _ticks(stat: Path) -> list[int]:
    """Ticks of all cores together: user, nice, system, idle, and more."""
    return [int(field) for field in stat.read_text().splitlines()[0].split()[1:]]
