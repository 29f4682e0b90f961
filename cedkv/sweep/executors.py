"""Where cells are judged: in this process, in several, or on a Ray cluster. A new place is a function and a line.

Each gives a function that judges items, in any order, and yields each with its outcome as soon as it is there. A
worker that dies loses nothing: its item is judged again, and after `TRIES` deaths its outcome is an error.
"""

import logging
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from cedkv.errors import ConfigError
from cedkv.extras import extra
from cedkv.sweep.cell import Outcome, Workplace

Work = Callable[[Workplace, Any], Outcome]
Run = Callable[[Work, Sequence[Any]], Iterator[tuple[Any, Outcome]]]
TRIES = 3
_LOST: Outcome = {"error": f"its worker died {TRIES} times; it may need more memory than there is"}


@dataclass(frozen=True)
class Resources:
    """workers : items at once. threads : cores of each. gpus : of each, where the place hands them out."""

    workers: int
    threads: int
    gpus: int = 0


@contextmanager
def inline(resources: Resources) -> Iterator[Run]:
    """One after the other, here."""
    workplace, before = Workplace(), torch.get_num_threads()
    torch.set_num_threads(resources.threads)
    try:
        yield lambda work, items: ((item, work(workplace, item)) for item in items)
    finally:
        torch.set_num_threads(before)


@contextmanager
def processes(resources: Resources) -> Iterator[Run]:
    """In processes of this machine."""
    idle = [_Worker(resources.threads) for _ in range(resources.workers)]
    staff = set(idle)

    def run(work: Work, items: Sequence[Any]) -> Iterator[tuple[Any, Outcome]]:
        ahead = deque((item, 1) for item in items)
        busy: dict[Connection, tuple[_Worker, Any, int]] = {}
        while ahead or busy:
            while ahead and idle:
                worker, (item, attempt) = idle.pop(), ahead.popleft()
                worker.take(work, item)
                busy[worker.pipe] = worker, item, attempt
            ready = wait(list(busy))
            for pipe in [pipe for pipe in busy if pipe in ready]:
                worker, item, attempt = busy.pop(pipe)
                outcome = worker.outcome()
                if outcome is None:
                    staff.remove(worker)
                    worker = _Worker(resources.threads)
                    staff.add(worker)
                    if attempt < TRIES:
                        ahead.appendleft((item, attempt + 1))
                idle.append(worker)
                if outcome or attempt == TRIES:
                    yield item, outcome or _LOST

    try:
        yield run
    finally:
        for worker in staff:
            worker.process.terminate()


class _Worker:
    """A process that waits for items. It starts fresh (spawn): neither threads nor a loaded model are copied."""

    def __init__(self, threads: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()

    def take(self, work: Work, item: Any) -> None:
        with suppress(OSError):  # it has died meanwhile: its outcome tells
            self.pipe.send((work, item))

    def outcome(self) -> Outcome | None:
        """Of the item it took; None where it died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return None


def _serve(pipe: Connection, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal's Ctrl-C, whose process ends its workers itself
    torch.set_num_threads(threads)
    workplace = Workplace()
    with suppress(EOFError):
        while True:
            work, item = pipe.recv()
            pipe.send(work(workplace, item))


@contextmanager
def on_ray(resources: Resources) -> Iterator[Run]:
    """As tasks of the Ray cluster that RAY_ADDRESS names, or of one that is started here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reads it when it starts
    ray = extra("ray", "sweep")
    _start(ray)
    try:
        if resources.gpus > ray.cluster_resources().get("GPU", 0):
            raise ConfigError("device: cuda needs a GPU, and no machine of the Ray cluster has one")
        task = ray.remote(num_cpus=resources.threads, num_gpus=resources.gpus, max_retries=TRIES - 1)(_task)

        def run(work: Work, items: Sequence[Any]) -> Iterator[tuple[Any, Outcome]]:
            ahead, flying = deque(items), dict[Any, Any]()
            while ahead or flying:
                while ahead and len(flying) < resources.workers:
                    item = ahead.popleft()
                    flying[task.remote(work, item, resources.threads)] = item
                for reference in ray.wait(list(flying))[0]:
                    try:
                        outcome = ray.get(reference)
                    except ray.exceptions.WorkerCrashedError:
                        outcome = _LOST
                    except ray.exceptions.RayError as error:
                        outcome = {"error": " ".join(str(error).split())}
                    yield flying.pop(reference), outcome

        yield run
    finally:
        ray.shutdown()


def _start(ray: Any) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one here; a busy machine may be too slow for Ray's patience."""
    address = os.environ.get("RAY_ADDRESS")
    for attempt in range(1, TRIES + 1):
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # Ray raises bare ones
            ray.shutdown()
            if address or attempt == TRIES:
                where = f"joined at RAY_ADDRESS {address!r}" if address else "started here"
                raise ConfigError(f"Ray cannot be {where}: {' '.join(str(error).split())}") from error


def _task(work: Work, item: Any, threads: int) -> Outcome:
    torch.set_num_threads(threads)
    return work(_workplace_here(), item)


@cache
def _workplace_here() -> Workplace:
    """That of a Ray worker: a process that outlives its tasks. Only there is it called."""
    return Workplace()


EXECUTORS: dict[str, Callable[[Resources], AbstractContextManager[Run]]] = {
    "inline": inline,
    "processes": processes,
    "ray": on_ray,
}
