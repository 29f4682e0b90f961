"""A finished phase-3 gate on a tiny random model, shared by the tests that read what it left."""

import pytest

from cedkv.config import Config, load_config
from cedkv.events import Done, Event
from cedkv.gate import GateReport, iter_gate
from tests.optim.trainings import SLOTS, SMALL
from tests.tiny import tiny_lm

GATE = [
    *SMALL,
    f"phase3.slots={SLOTS}",
    "phase2.eval.off_samples=10",
    "phase2.eval.answer_tokens=3",
    "phase2.eval.n_random_trials=2",
    "phase3.optim.matching_iterations=2",
    "phase3.optim.tick_every=2",
    # A bound that a random model breaks, so that there is something to warn of.
    "phase3.dual.target=0.01",
]


@pytest.fixture(scope="session")
def config() -> Config:
    return load_config(None, GATE)


@pytest.fixture(scope="session")
def events(config, tmp_path_factory) -> list[Event]:
    return list(iter_gate(config, 3, lm=tiny_lm("llama"), out=tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="session")
def report(events) -> GateReport:
    assert isinstance(events[-1], Done)
    return events[-1].result
