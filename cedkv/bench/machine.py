"""What the machine can do: its matrix-multiply rate, its memory and how fast that is read, its processor."""

import os
import platform
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from cedkv.bench.arithmetic import ModelShape

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# One timing of a matrix product covers as many calls as take about this long.
_MEASURED_SECONDS = 0.02
_MEASUREMENTS = 5
_READ_BYTES = 2**28
# A product that takes longer than this is timed once.
_SLOW_SECONDS = 0.5


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def gemm_gflops(shape: ModelShape, tokens: int, device: torch.device) -> dict[str, float]:
    """GFLOP/s of `tokens` rows times each linear map of a layer, operands warm in the cache: total work by total time.

    That is the mean over the maps' shapes weighted by their arithmetic. Dtypes and shapes take turns.
    """
    maps = Counter(size for layer in shape.layers for size in layer.linears.values())
    products = {(name, size): _product(tokens, size, dtype, device) for name, dtype in DTYPES.items() for size in maps}
    calls = {key: max(1, round(_MEASURED_SECONDS / _warm_seconds(product))) for key, product in products.items()}
    times: dict[tuple, list[float]] = {key: [] for key in products}
    for turn in range(_MEASUREMENTS):
        for key, product in products.items():
            if turn and times[key][0] > _SLOW_SECONDS:  # emulated: once is enough to say so
                continue
            times[key].append(seconds_of(lambda: [product() for _ in range(calls[key])]) / calls[key])  # noqa: B023
    work = sum(2 * tokens * inputs * outputs * count for (inputs, outputs), count in maps.items())
    return {
        name: work / 1e9 / sum(statistics.median(times[name, size]) * count for size, count in maps.items())
        for name in DTYPES
    }


def reading_gb_s(device: torch.device) -> float:
    """GB/s at which memory is read: the best of a few sums over far more than the caches hold."""
    numbers = torch.ones(_READ_BYTES // 4, device=device)

    def read() -> None:
        numbers.sum()
        synchronize(device)

    return numbers.nbytes / 1e9 / min(seconds_of(read) for _ in range(_MEASUREMENTS))


def _product(tokens: int, size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(tokens, size[0], generator=draw).to(device, dtype)
    weight = torch.randn(size[1], size[0], generator=draw).to(device, dtype)

    def multiply() -> None:
        torch.nn.functional.linear(rows, weight)
        synchronize(device)

    return multiply


def _warm_seconds(product: Callable[[], None]) -> float:
    first = seconds_of(product)
    return first if first > _SLOW_SECONDS else min(seconds_of(product) for _ in range(3))


def synchronize(device: torch.device) -> None:
    """Wait for an accelerator, which returns before its work is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def peak_rss_mb() -> float:
    """The most memory this process has had so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def describe_machine() -> dict[str, Any]:
    known = torch.cpu.get_capabilities()
    return {
        "processor": known.get("cpu_name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16_in_hardware": bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16")),
        "system": platform.platform(),
    }
