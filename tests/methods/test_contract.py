"""What every registered method promises, whoever wrote it: a method is under test the moment it is registered."""

from functools import cache

import pytest
import torch

from cedkv.config import Config
from cedkv.events import Done, StepTrace, TrainingStep
from cedkv.lm import log_probs
from cedkv.methods import METHODS, Extraction, run_method
from cedkv.metrics import kl
from cedkv.state import KVPrefix
from tests.optim.trainings import bench_with

ALL = list(METHODS)
# Enough for one whole demonstration, and fewer than there are tokens.
SLOTS = 24
QUICK = ("phase3.optim.steps=2", "phase3.optim.tick_every=2")
# The rows of a method that copies or mixes tokens say what each slot is made of; Free-KV's slots are made of nothing.
WITHOUT_PROVENANCE = {"free"}


@cache
def made(method: str) -> tuple:
    """A bench and the method's extraction on it."""
    bench = bench_with(*QUICK)
    *_, done = run_method(method, bench, SLOTS)
    assert isinstance(done, Done)
    return bench, done.result


def extraction_of(method: str, *overrides: str) -> Extraction:
    *_, done = run_method(method, bench_with(*QUICK, *overrides), SLOTS)
    return done.result


@pytest.mark.parametrize("method", ALL)
class TestEveryMethod:
    def test_its_state_has_the_models_shape(self, method):
        bench, extraction = made(method)
        prefix, lm = extraction.prefix, bench.lm
        assert prefix.keys.shape == prefix.values.shape
        assert prefix.keys.shape == (lm.layers, lm.kv_heads, prefix.slots, lm.head_dim)
        assert prefix.keys.isfinite().all() and prefix.values.isfinite().all()
        assert not prefix.keys.requires_grad and not prefix.values.requires_grad
        assert prefix.fingerprint == lm.fingerprint

    def test_it_makes_no_more_slots_than_are_asked_for(self, method):
        prefix = made(method)[1].prefix
        assert 0 < prefix.slots <= SLOTS
        assert len(prefix.positions) == prefix.slots
        assert prefix.active.shape == (prefix.keys.shape[0], prefix.slots)
        on = prefix.active.any(0)
        assert prefix.positions[on].tolist() == sorted(set(prefix.positions[on].tolist()))
        assert prefix.query_start > prefix.positions.max()

    def test_it_says_where_its_slots_come_from(self, method):
        bench, extraction = made(method)
        mixture, on = extraction.prefix.mixture, extraction.prefix.active.any(0)
        if method in WITHOUT_PROVENANCE:
            assert mixture is None
            return
        assert mixture is not None, "or name it in WITHOUT_PROVENANCE"
        assert set(mixture.tokens.ids) <= set(bench.episode.tokens.ids)
        assert (mixture.weights >= 0).all()
        torch.testing.assert_close(
            mixture.weights[:, :, on].sum(-1), torch.ones(*mixture.weights.shape[:2], int(on.sum()))
        )

    def test_its_state_notes_what_made_it(self, method):
        bench, extraction = made(method)
        assert extraction.method == method
        meta = extraction.prefix.meta
        assert (meta["method"], meta["episode"], meta["model"]) == (method, bench.episode.sha256, bench.lm.id)
        assert meta["metrics"]["train_kl"] >= 0

    def test_its_state_can_be_saved_and_read(self, method, tmp_path):
        bench, extraction = made(method)
        extraction.prefix.save(tmp_path / "state.safetensors")
        again = KVPrefix.load(tmp_path / "state.safetensors", bench.lm.fingerprint)
        assert torch.equal(
            log_probs(bench.lm, bench.probes, extraction.prefix), log_probs(bench.lm, bench.probes, again)
        )

    def test_its_slots_change_the_answers(self, method):
        bench, extraction = made(method)
        base, student = log_probs(bench.lm, bench.probes), log_probs(bench.lm, bench.probes, extraction.prefix)
        assert kl(student, base).mean() > 1e-3

    def test_one_seed_gives_one_state(self, method):
        first, again = made(method)[1].prefix, extraction_of(method).prefix
        assert torch.equal(first.keys, again.keys)
        assert torch.equal(first.values, again.values)

    def test_it_can_be_cut_short_wherever_it_tells_something(self, method):
        events = METHODS[method].run(bench_with(*QUICK), SLOTS)
        next(events)
        events.close()
        assert list(events) == []

    def test_asked_to_stop_it_ends_with_a_state(self, method):
        told = []
        bench = bench_with("phase3.optim.steps=4", "phase3.optim.tick_every=1")
        stopping = type(bench)(bench.lm, bench.episode, bench.config, stop=lambda: bool(steps(told)))
        for event in METHODS[method].run(stopping, SLOTS):
            told.append(event)
        extraction = told[-1].result
        assert len(steps(told)) <= 1
        assert extraction.complete == (not steps(told))
        assert extraction.prefix.values.isfinite().all()

    def test_it_describes_itself(self, method):
        about = METHODS[method]
        assert about.label
        assert about.gate_role in {"floor", "rival", "free lunch", "student", "ceiling", "instant"}
        for block in about.settings:
            place = Config()
            for name in block.split("."):
                place = getattr(place, name)


def steps(events: list) -> list:
    return [event for event in events if isinstance(event, StepTrace | TrainingStep)]
