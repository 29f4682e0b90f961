"""Small trainings on a tiny random model, for tests of the parts and of the whole."""

from collections.abc import Iterator

from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.events import Done, Event
from cedkv.methods import METHODS, Extraction, Workbench
from cedkv.methods.ced import mixture_slots
from cedkv.methods.training import open_training
from cedkv.optim.loop import Training
from tests.tiny import tiny_lm

SLOTS = 5
# Stated here in full, so that the tests do not depend on the defaults.
SMALL = [
    "episode.demos=4",
    "episode.on_train=6",
    "phase2.eval.on_samples=5",
    "phase3.start=tokens",
    "phase3.mixture={scope: per_layer, output_factor: 1.0}",
    "phase3.loss={lambda_on: 1.0, lambda_off: 0.5, lambda_str: 0.02, tail_fraction: 0.5, on_tokens: first}",
    "phase3.optim.steps=8",
    "phase3.optim.lr=0.3",
    "phase3.optim.train_dtype=model",
    "phase3.optim.free_lr=0.05",
    "phase3.optim.clip=1.0",
    "phase3.optim.matching_iterations=0",
    "phase3.optim.matching_off_texts=4",
    "phase3.optim.on_batch=4",
    "phase3.optim.off_batch=4",
    "phase3.optim.off_reads=1",
    "phase3.optim.topk_schedule=[8, 3]",
    "phase3.optim.tick_every=4",
    "phase3.optim.tick_stress_samples=12",
    "phase3.dual={target: 0.5, lambda_max: 2.0}",
    "phase3.off_data.stress_samples=12",
    "phase3.off_data.pool_size=10",
    "phase3.off_data.candidates=12",
    "phase3.off_data.refill_every=4",
]


def bench_with(*overrides: str) -> Workbench:
    config = load_config(None, [*SMALL, *overrides])
    lm = tiny_lm("llama")
    return Workbench(lm, episode_from_config(lm, config), config)


def train(bench: Workbench, method: str = "ced", slots: int = SLOTS) -> tuple[Extraction, list[Event]]:
    """A whole extraction, and what it told."""
    *events, done = METHODS[method].run(bench, slots)
    assert isinstance(done, Done)
    return done.result, events


def ced(*overrides: str) -> Extraction:
    return train(bench_with(*overrides))[0]


def training_of(*overrides: str, slots: int = SLOTS) -> Training:
    """A training of mixtures that has not begun, its hard pool filled once."""
    bench = bench_with(*overrides)
    training = open_training(bench, "ced", mixture_slots(bench, slots))
    objective = training.objective
    objective.pool.refill(objective.slots.prefix(objective.top_k(0)), 12)
    return training


def events_of(events: Iterator[Event], kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]
