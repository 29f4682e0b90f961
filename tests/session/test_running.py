"""Runs of a session: every method that is offered makes one, with the slots of its phase."""

from types import SimpleNamespace
from typing import cast

import pytest

from cedkv.config import dump_config, parse_config
from cedkv.errors import ConfigError
from cedkv.events import Done, GateCriterion, Opened, drain
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


FEW = ("phase3.slots=5", "phase2.eval.off_samples=8", "phase3.off_data.stress_samples=8", "phase2.prefix_len=6")


def test_the_gate_of_a_method_that_no_gate_runs_judges_the_state_it_makes(tmp_path):
    bench, store = bench_with(*FEW), SessionStore(tmp_path, Limits(), [])
    *told, done = runner_of(bench.lm, store).iter_gate_of("visitor", bench.config, "amortised")
    assert isinstance(done, Done) and (done.result.student, done.result.made_by) == ("state", "amortised")
    criteria = {event.name for event in told if isinstance(event, GateCriterion) and event.gate == "B"}
    assert criteria >= {"off_delta_p99_stress", "acc_state_vs_teacher"}
    assert {run.student for run in store.runs("visitor")} == {"state", "amortised"}


def test_told_to_stop_before_its_gate_has_begun_it_leaves_the_state_that_was_made(tmp_path):
    bench, store = bench_with(*FEW), SessionStore(tmp_path, Limits(), [])
    stopped: list[bool] = []
    events = runner_of(bench.lm, store).iter_gate_of("visitor", bench.config, "amortised", lambda: bool(stopped))
    heard = []
    for event in events:
        heard.append(event)
        if store.runs("visitor"):  # it is made
            stopped.append(True)
    assert isinstance(heard[-1], Done) and heard[-1].result.student == "amortised"
    assert not any(isinstance(event, Opened) for event in heard)
    assert [run.student for run in store.runs("visitor")] == ["amortised"]


def test_a_method_of_a_gate_is_judged_by_it_in_one_run(tmp_path):
    bench, store = bench_with(*FEW, "phase2.eval.n_random_trials=1"), SessionStore(tmp_path, Limits(), [])
    run = drain(runner_of(bench.lm, store).iter_gate_of("visitor", bench.config, "select"))
    assert run.student == "select" and [kept.id for kept in store.runs("visitor")] == [run.id]


LACKED = ("phase3.layer_scope.injection=[9]",)


@pytest.mark.parametrize(("method", "more"), [("selct", ()), ("amortised", LACKED), ("select", LACKED)])
def test_what_cannot_be_leaves_nothing_behind(method, more, tmp_path):
    bench, store = bench_with(*FEW), SessionStore(tmp_path, Limits(), [])
    config = parse_config(dump_config(bench.config), "test", more)
    with pytest.raises(ConfigError, match="'selct' is unknown|phase3.layer_scope.injection"):
        drain(runner_of(bench.lm, store).iter_gate_of("visitor", config, method))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
