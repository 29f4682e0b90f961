"""How threads wait: they sleep on a busy machine, spin on a quiet one, and do as the user says."""

import os
import threading
import time

import pytest

from cedkv.openmp import STAT, idle_share, settle_waiting


def moving_stat(path, monkeypatch, idle: int):
    """A /proc/stat whose cores spend 100 ticks in the next look, `idle` of them idle."""
    path.write_text("cpu  50 0 50 900 0\ncpu0 1 2 3 4 5\n")
    busy = 100 - idle
    monkeypatch.setattr(
        "cedkv.openmp.time.sleep", lambda seconds: path.write_text(f"cpu  {50 + busy} 0 50 {900 + idle} 0\n")
    )
    return path


@pytest.mark.parametrize(("idle", "policy"), [(100, None), (80, None), (79, "PASSIVE"), (0, "PASSIVE")])
def test_threads_sleep_only_where_others_need_a_core(tmp_path, monkeypatch, idle, policy):
    environment = {}
    settle_waiting(environment, moving_stat(tmp_path / "stat", monkeypatch, idle))
    assert environment.get("OMP_WAIT_POLICY") == policy


def test_what_the_user_says_stays(tmp_path, monkeypatch):
    environment = {"OMP_WAIT_POLICY": "ACTIVE"}
    settle_waiting(environment, moving_stat(tmp_path / "stat", monkeypatch, idle=0))
    assert environment == {"OMP_WAIT_POLICY": "ACTIVE"}


def test_without_the_file_threads_sleep(tmp_path):
    environment = {}
    settle_waiting(environment, tmp_path / "missing")
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.skipif(not STAT.exists(), reason="only Linux says how busy it is")
def test_a_busy_thread_is_seen():
    """Python's lock lets one thread work at a time, so one core is busy."""
    end = time.monotonic() + 0.5
    worker = threading.Thread(target=lambda: all(time.monotonic() < end for _ in iter(int, 1)))
    worker.start()
    share = idle_share()
    worker.join()
    assert share < 1 - 0.5 / os.cpu_count()
