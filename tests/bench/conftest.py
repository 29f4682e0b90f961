"""One small benchmark of a tiny model, shared by the tests that read its figures."""

import copy

import pytest

from cedkv.bench import Plan, iter_bench
from cedkv.config import load_config
from cedkv.events import Done, Event, Measured, Progress
from tests.tiny import tiny_path

PLAN = Plan(
    "tiny", slots=(2, 3), demos=(3, 4), usual_slots=3, usual_demos=4, extractions=1, steps=2, answers=2, new_tokens=4
)
SHORT = [
    "episode.on_train=4",
    "phase3.optim.steps=2",
    "phase3.optim.on_batch=2",
    "phase3.optim.off_batch=3",
    "phase3.optim.matching_iterations=1",
    "phase3.optim.tick_stress_samples=8",
    "phase3.off_data.stress_samples=8",
    "phase3.off_data.pool_size=8",
    "phase3.off_data.candidates=8",
]


@pytest.fixture(scope="session")
def told() -> list[Event]:
    """Everything that the benchmark said, figures on the way as they were at that time."""
    config = load_config(None, [f"run.model.id={tiny_path('llama')}", *SHORT])
    events = []
    for event in iter_bench(config, PLAN):
        events.append(Measured(copy.deepcopy(event.figures)) if isinstance(event, Measured) else event)
    return events


@pytest.fixture(scope="session")
def figures(told) -> dict:
    assert {type(event) for event in told[:-1]} == {Progress, Measured}
    assert isinstance(told[-1], Done)
    return told[-1].result
