"""Runs of a session: every method that is offered makes one, with the slots of its phase."""

from types import SimpleNamespace
from typing import cast

import pytest

from cedkv.events import Done, GateCriterion, drain
from cedkv.gate.kinds import KINDS
from cedkv.methods import METHODS
from cedkv.session.limits import Limits
from cedkv.session.models import ModelShelf
from cedkv.session.running import Runner, phase_of
from cedkv.session.store import SessionStore
from tests.optim.trainings import bench_with


def runner_of(lm, store: SessionStore) -> Runner:
    return Runner(cast(ModelShelf, SimpleNamespace(get=lambda config: lm)), store)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_a_run(method, tmp_path):
    copied = 60 if method == "few_shot" else 6  # tokens; the tiny tokenizer has one for nearly every letter
    bench = bench_with(f"phase2.prefix_len={copied}", "phase3.slots=5", "phase3.optim.steps=2")
    store = SessionStore(tmp_path, Limits(), [])
    run = drain(runner_of(bench.lm, store).iter_run("visitor", bench.config, method))
    assert run.made_by == method and run.student == method
    asked = KINDS[phase_of(method)].slots(bench.config)
    # Whole demonstrations fill no number of slots to the last.
    assert 0 < run.prefix(method).slots <= asked if method == "few_shot" else run.prefix(method).slots == asked


def test_the_gate_of_a_method_that_no_gate_runs_judges_the_state_it_makes(tmp_path):
    bench = bench_with("phase3.slots=5", "phase2.eval.off_samples=8", "phase3.off_data.stress_samples=8")
    store = SessionStore(tmp_path, Limits(), [])
    *told, done = runner_of(bench.lm, store).iter_gate_of("visitor", bench.config, "amortised")
    assert isinstance(done, Done) and (done.result.student, done.result.made_by) == ("state", "amortised")
    criteria = {event.name for event in told if isinstance(event, GateCriterion) and event.gate == "B"}
    assert criteria >= {"off_delta_p99_stress", "acc_state_vs_teacher"}
    assert {run.student for run in store.runs("visitor")} == {"state", "amortised"}
