"""Runs of a session: every method that is offered makes one, with the slots of its phase."""

from types import SimpleNamespace
from typing import cast

import pytest

from cedkv.events import drain
from cedkv.gate.kinds import KINDS
from cedkv.methods import METHODS
from cedkv.session.limits import Limits
from cedkv.session.models import ModelShelf
from cedkv.session.running import Runner, phase_of
from cedkv.session.store import SessionStore
from tests.optim.trainings import bench_with


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_a_run(method, tmp_path):
    bench = bench_with("phase2.prefix_len=6", "phase3.slots=5", "phase3.optim.steps=2")
    models = cast(ModelShelf, SimpleNamespace(get=lambda config: bench.lm))
    runner = Runner(models, SessionStore(tmp_path, Limits(), []))
    run = drain(runner.iter_run("visitor", bench.config, method))
    assert run.made_by == method and run.student == method
    if method != "few_shot":  # which has whole demonstrations
        assert run.prefix(method).slots == KINDS[phase_of(method)].slots(bench.config)
