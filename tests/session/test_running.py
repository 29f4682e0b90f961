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
    copied = 60 if method == "few_shot" else 6  # tokens; the tiny tokenizer has one for nearly every letter
    bench = bench_with(f"phase2.prefix_len={copied}", "phase3.slots=5", "phase3.optim.steps=2")
    models = cast(ModelShelf, SimpleNamespace(get=lambda config: bench.lm))
    runner = Runner(models, SessionStore(tmp_path, Limits(), []))
    run = drain(runner.iter_run("visitor", bench.config, method))
    assert run.made_by == method and run.student == method
    asked = KINDS[phase_of(method)].slots(bench.config)
    # Whole demonstrations fill no number of slots to the last.
    assert 0 < run.prefix(method).slots <= asked if method == "few_shot" else run.prefix(method).slots == asked
