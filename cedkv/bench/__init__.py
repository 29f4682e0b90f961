"""What the method costs on this machine: the measurements behind `python -m cedkv bench`."""

from cedkv.bench.plan import FULL, QUICK, Plan
from cedkv.bench.run import iter_bench

__all__ = ["FULL", "QUICK", "Plan", "iter_bench"]
