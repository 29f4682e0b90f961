"""Several processes fill, read, damage and overflow one extraction cache; nothing may be lost or corrupted.

    python benchmarks/cache_stress.py --processes 4 --seconds 60

exits 1 and prints what went wrong if a state that came back is not the one its key names.
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from cedkv.state import KVPrefix
from cedkv.state.cache import StateCache

KEYS = 12
# Entries that fit: fewer than there are keys, so that entries are evicted all the time.
ROOM = 8
DAMAGES = 0.05
FINGERPRINT = "print"


def numbered(number: int) -> KVPrefix:
    """A state that says its number in every key."""
    keys = torch.full((3, 2, 4, 8), float(number))
    active = torch.ones(3, 4, dtype=torch.bool)
    return KVPrefix(keys, -keys, torch.arange(4), 4, active, FINGERPRINT, meta={"task": str(number)})


def use_for_a_while(cache: StateCache, seed: int, seconds: float, said) -> None:
    """Read and fill random keys, now and then damaging one; say what was wrong and how often states were got."""
    draw, until, turns, wrong = random.Random(seed), time.monotonic() + seconds, 0, []
    while time.monotonic() < until:
        number = draw.randrange(KEYS)
        state = cache.get_or_make(f"k{number}", FINGERPRINT, lambda number=number: numbered(number))
        turns += 1
        if state.keys.unique().tolist() != [float(number)] or state.meta != {"task": str(number)}:
            wrong.append(f"key {number} gave the state of {state.meta}")
        if draw.random() < DAMAGES:
            (cache.folder / f"k{draw.randrange(KEYS)}.safetensors").write_bytes(b"damaged")
    said.put((turns, wrong))


def stress(folder: Path, processes: int, seconds: float) -> tuple[int, list[str]]:
    """How often states were got, and what was wrong, a process that died included."""
    StateCache(folder).put("k0", numbered(0))
    cache = StateCache(folder, ROOM * StateCache(folder).entries()[0].bytes)
    fork = multiprocessing.get_context("fork")
    said = fork.Queue()
    workers = [fork.Process(target=use_for_a_while, args=(cache, seed, seconds, said)) for seed in range(processes)]
    for worker in workers:
        worker.start()
    reports = [said.get(timeout=seconds + 60) for _ in workers]
    for worker in workers:
        worker.join()
    wrong = [text for _, texts in reports for text in texts]
    return sum(turns for turns, _ in reports), wrong + [f"exit {w.exitcode}" for w in workers if w.exitcode]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=4, metavar="N")
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        turns, wrong = stress(Path(folder), args.processes, args.seconds)
    summary = f"{args.processes} processes got {turns} states in {args.seconds:g} s; wrong: {len(wrong)}"
    print("\n".join([*wrong, summary]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
