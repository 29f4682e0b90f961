"""How much memory some work takes at its height: more than there was before, not what a process has ever had."""

import ctypes
import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_PROC = Path("/proc/self")


@dataclass
class Peak:
    """Filled in when the work is over; None where the system cannot tell. MiB."""

    mb: float | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """The resident memory that the work inside takes above what is held when it begins; a GPU's own memory there.

    What earlier work has freed is given back to the system first, so that it does not hide what this one takes.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.mb = (torch.cuda.max_memory_allocated(device) - before) / 2**20
    elif device.type == "cpu" and _lowered_mark():
        before = _resident_kb("VmRSS")
        yield peak
        peak.mb = max(_resident_kb("VmHWM") - before, 0) / 2**10
    else:
        yield peak


def _lowered_mark() -> bool:
    """Whether the highest mark of resident memory could be set to what is resident now (man 5 proc_pid_clear_refs)."""
    if sys.platform != "linux":
        return False
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:  # a sandbox that does not let a process see its own memory
        return False
    return True


def _resident_kb(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", (_PROC / "status").read_text(), re.MULTILINE)
    assert found, name
    return int(found[1])
