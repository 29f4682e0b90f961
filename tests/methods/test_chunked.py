"""Chunked as a method: deterministic, without queries, the demonstrations' block where nothing has to be merged."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch.testing import assert_close

import cedkv.slots.merging
from cedkv import extract
from cedkv.calibration import CALIBRATING
from cedkv.events import Progress
from cedkv.lm import log_probs
from cedkv.methods import METHODS, Workbench
from cedkv.slots.chunked import chunk_weights, chunks_by_place
from cedkv.slots.merging import fitted_chunks
from cedkv.state import KVPrefix
from tests.optim.trainings import bench_with


def chunked(bench: Workbench, slots: int) -> KVPrefix:
    return extract(bench.lm, bench.episode, "chunked", slots, bench.config).prefix


@pytest.mark.parametrize("slots", [1, 5, 12])
def test_two_runs_are_equal_whatever_the_queries(slots):
    bench = bench_with()
    first, again = chunked(bench, slots), chunked(bench_with(), slots)
    assert first.slots == slots
    assert torch.equal(first.keys, again.keys) and torch.equal(first.values, again.values)
    others = replace(bench.episode, on_train=bench.episode.on_train[:1], on_eval=bench.episode.on_eval[:1])
    assert torch.equal(first.keys, chunked(replace(bench, episode=others), slots).keys)


def test_rows_are_means_and_weights_follow_the_setting():
    prefix = chunked(bench_with("phase3.chunked.weight=0.5"), 7)
    rows = prefix.mixture.weights[0, 0]
    counts = rows.count_nonzero(dim=-1)
    assert_close(rows.sum(-1), torch.ones(7))
    assert_close(rows.amax(-1), 1 / counts)
    usable = bench_with().directions.usable[..., None]
    assert_close(prefix.mixture.log_bias, 0.5 * counts.log() * usable)


def test_with_a_slot_per_token_it_is_the_teacher_but_for_the_order():
    """Each token its own chunk: its key and value are copied, none counts as more than one."""
    bench = bench_with("phase2.injection.positioning_mode=absolute")
    tokens = len(bench.episode.tokens)
    prefix = chunked(bench, tokens)
    order = prefix.mixture.weights[0, 0].argmax(-1)
    back = replace(prefix, positions=order, query_start=tokens)
    assert_close(
        log_probs(bench.lm, bench.probes, back), log_probs(bench.lm, bench.probes, bench.teacher), atol=1e-4, rtol=0.0
    )


@pytest.mark.parametrize("slots", [3, 5, 8])
def test_merges_need_no_second_look_at_the_demonstrations(slots, monkeypatch):
    """Their own forward says how the last of them attends; read again, it would say the same."""
    bench = bench_with()
    again = fitted_chunks(bench.lm, bench.demo_kv, chunks_by_place(bench.episode.tokens), slots, weight=1.0)
    monkeypatch.setattr(cedkv.slots.merging, "read_attention", None)
    prefix = chunked(bench_with("phase3.chunked.weight=1"), slots)
    assert prefix.slots == slots < len(chunks_by_place(bench.episode.tokens))
    assert torch.equal(prefix.mixture.weights[0, 0], chunk_weights(again, len(bench.episode.tokens)))


def test_it_can_be_saved_and_used(tmp_path):
    bench = bench_with()
    prefix = chunked(bench, 6)
    prefix.save(tmp_path / "state.safetensors")
    again = KVPrefix.load(tmp_path / "state.safetensors", bench.lm.fingerprint)
    assert torch.equal(again.mixture.log_bias, prefix.mixture.log_bias)
    assert torch.equal(log_probs(bench.lm, bench.probes, prefix), log_probs(bench.lm, bench.probes, again))


def test_it_keeps_to_the_injection_layers():
    assert chunked(bench_with("phase3.layer_scope.injection=[1, 2]"), 6).active.any(1).tolist() == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("method", ["chunked", "amortised", "ced"])
def test_a_model_that_is_calibrated_first_is_said_to_be_once(method, monkeypatch, tmp_path):
    monkeypatch.setenv("CEDKV_CACHE", str(tmp_path))
    first, again = (
        list(islice(METHODS[method].run(bench_with("phase3.start=chunks", "phase3.mixture={}"), 3), 3))
        for _ in range(2)
    )
    assert Progress(CALIBRATING, 0, 1) in first
    assert Progress(CALIBRATING, 0, 1) not in again  # the fit is kept
