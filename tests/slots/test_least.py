"""Chunks that learn how much they count: what may change, what stays, and that it pays."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cedkv.errors import ConfigError
from cedkv.lm import log_probs
from cedkv.lm.observe import read_attention
from cedkv.lm.weighing import WeightDirections
from cedkv.methods import Workbench
from cedkv.methods.ced import least_slots, set_free
from cedkv.methods.chunked import closed_form
from cedkv.metrics import kl
from cedkv.slots.chunked import chunks_by_place
from cedkv.slots.least import LeastSlots
from cedkv.state import KVPrefix
from tests.optim.trainings import bench_with, train

SLOTS = 6
CHUNKS = ("phase3.start=chunks", "phase3.mixture={}")


def bench_of(*overrides: str) -> Workbench:
    """The tiny model's queries share little; here every head carries weights all the same."""
    bench = bench_with(*CHUNKS, *overrides)
    fitted = bench.directions
    bench.__dict__["directions"] = WeightDirections(fitted.fitted, torch.zeros_like(fitted.error))
    return bench


def slots_of(*overrides: str) -> tuple[Workbench, LeastSlots]:
    bench = bench_of(*overrides)
    return bench, least_slots(bench, SLOTS)


def test_slots_of_which_nothing_may_change_are_refused():
    with pytest.raises(ConfigError, match=r"phase3\.least.*within_chunks = none"):
        slots_of("phase3.least={weight: false, gain: false, within_chunks: none}")


def test_it_starts_as_the_closed_form():
    bench, slots = slots_of("phase3.least.within_chunks=all")
    start, closed = slots.prefix(1), closed_form(bench, SLOTS, bench.config.phase3.least.start_weight)
    for name in ("keys", "values"):
        assert_close(getattr(start, name), getattr(closed, name), atol=1e-5, rtol=0.0)
    assert_close(start.mixture.weights, closed.mixture.weights.expand_as(start.mixture.weights))
    assert_close(start.mixture.log_bias, closed.mixture.log_bias)


@pytest.mark.parametrize(
    ("learnt", "numbers"),
    [
        ("{weight: true, gain: true, within_chunks: none}", 2 * 4 * 2 * SLOTS),
        ("{weight: true, gain: false, within_chunks: none}", 4 * 2 * SLOTS),
        ("{weight: false, gain: true, within_chunks: none}", 4 * 2 * SLOTS),
    ],
)
def test_each_freedom_is_there_alone(learnt, numbers):
    _, slots = slots_of(f"phase3.least={learnt}")
    assert sum(parameter.numel() for group in slots.groups for parameter in group.parameters) == numbers


@pytest.mark.parametrize(("shared", "numbers"), [("heads", 2 * 4 * SLOTS), ("layers", 2 * SLOTS)])
def test_heads_and_layers_may_share_their_numbers(shared, numbers):
    bench, slots = slots_of(f"phase3.least={{shared: {shared}, within_chunks: none}}")
    assert sum(parameter.numel() for group in slots.groups for parameter in group.parameters) == numbers
    closed = closed_form(bench, SLOTS, bench.config.phase3.least.start_weight)
    assert_close(slots.prefix(1).keys, closed.keys, atol=1e-5, rtol=0.0)


def test_a_pure_sink_stays_as_it_is():
    _, slots = slots_of("phase3.least.pure_sink=true")
    before = slots.prefix(1)
    with torch.no_grad():
        slots.log_bias += 1.0
        slots.gain += 1.0
    after = slots.prefix(1)
    assert torch.equal(after.keys[:, :, 0], before.keys[:, :, 0])
    assert torch.equal(after.values[:, :, 0], before.values[:, :, 0])
    assert (after.keys[:, :, 1:] != before.keys[:, :, 1:]).any(-1).all()


def test_a_pure_sink_keeps_the_gain_it_came_with():
    """An extractor's slots have gains; they are where a refinement starts."""
    bench = bench_of("phase3.least.pure_sink=true")
    closed = closed_form(bench, SLOTS, bench.config.phase3.least.start_weight)
    gains = torch.full_like(closed.mixture.log_bias, 1.5)
    slots = set_free(bench, replace(closed, mixture=replace(closed.mixture, value_gain=gains)))
    assert_close(slots.prefix(1).values[:, :, 0], 1.5 * closed.values[:, :, 0])


def test_the_price_is_the_mean_of_log_one_plus_count():
    _, slots = slots_of("phase3.least={price: 2.0}")
    counts = slots.prefix(1).mixture.log_bias.exp()
    assert_close(slots.structure_loss(1), 2.0 * (1 + counts).log().mean())
    slots.structure_loss(1).backward()
    assert (slots.log_bias.grad > 0).all(), "going down it, every slot counts less"


@pytest.mark.slow
def test_a_price_makes_slots_count_less():
    free, priced = (train(bench_of(f"phase3.least.price={price}"), slots=SLOTS)[0].prefix for price in (0, 500))
    assert priced.mixture.log_bias.mean() < free.mixture.log_bias.mean() - 0.1


def test_a_selective_weight_is_felt_by_the_relation_alone():
    """A unit of it raises the slots' scores for ON queries' last tokens more than for those of other texts."""
    bench, slots = slots_of("phase3.least.selective=true")
    before = slots.prefix(1)
    assert_close(before.keys, closed_form(bench, SLOTS, bench.config.phase3.least.start_weight).keys, atol=1e-5, rtol=0)
    with torch.no_grad():
        slots.selective += 1.0
    after = slots.prefix(1)
    assert torch.equal(after.mixture.selective, torch.ones_like(after.mixture.log_bias))
    off = [bench.lm.encode(off.text) for off in bench.episode.off_set("pool", 48).texts]
    risen = []
    for texts in (bench.train_ids, off):
        reading = read_attention(bench.lm, texts, before, tail=3)
        risen.append((reading.scores_of(bench.lm, after) - reading.scores_of(bench.lm, before)).mean().item())
    assert risen[0] > risen[1] + 0.2


def test_a_map_of_low_rank_starts_as_none_and_is_pulled_to_none():
    bench, slots = slots_of("phase3.least.value_rank=2")
    before = slots.prefix(1)
    closed = closed_form(bench, SLOTS, bench.config.phase3.least.start_weight)
    assert_close(before.values, closed.values, atol=1e-5, rtol=0.0)
    assert not before.mixture.value_turn.any()
    with torch.no_grad():
        slots.turn[1][0, 0, 1] += 0.1
    after = slots.prefix(1)
    assert after.mixture.value_turn.count_nonzero() == 1
    assert torch.linalg.matrix_rank(slots.turn[0][0, 0, 1] @ slots.turn[1][0, 0, 1]) == 1
    assert slots.structure_loss(1) > 0


def test_each_group_has_its_own_rate():
    _, slots = slots_of("phase3.least={weight_lr: 0.2, gain_lr: 0.01, within_chunks: all, within_lr: 0.4}")
    assert [group.learning_rate for group in slots.groups] == [0.2, 0.01, 0.4]


def test_what_is_learnt_is_in_keys_and_values_and_is_said():
    _, slots = slots_of()
    before = slots.prefix(1)
    with torch.no_grad():
        slots.log_bias[1, 0, 3] += 0.5
        slots.gain[2, 1, 4] -= 0.25
    after = slots.prefix(1)
    assert_close(after.keys[1, 0, 3] - before.keys[1, 0, 3], 0.5 * slots.along[1, 0, 3], atol=1e-5, rtol=0.0)
    assert_close(after.values[2, 1, 4], 0.75 * before.values[2, 1, 4])
    assert (after.keys != before.keys).any(-1).sum() == (after.values != before.values).any(-1).sum() == 1
    assert after.mixture.log_bias[1, 0, 3] == before.mixture.log_bias[1, 0, 3] + 0.5
    assert after.mixture.value_gain[2, 1, 4] == 0.75


def test_a_deaf_head_learns_no_weight_and_says_none():
    bench = bench_with(*CHUNKS)
    error = torch.zeros_like(bench.directions.error)
    error[1, 1] = 1.0
    bench.__dict__["directions"] = WeightDirections(bench.directions.fitted, error)
    slots = least_slots(bench, SLOTS)
    with torch.no_grad():
        slots.log_bias += 1.0
    bias = slots.prefix(1).mixture.log_bias
    assert bias[1, 1].count_nonzero() == 0
    assert (bias[0, 0] >= 1.0).all()


def test_tokens_outside_of_a_chunk_never_enter_its_slot():
    _, slots = slots_of("phase3.least.within_chunks=all")
    with torch.no_grad():
        slots.logits += torch.randn(slots.logits.shape, generator=torch.Generator().manual_seed(0))
    weights, chunks = slots.prefix(1).mixture.weights, slots.template.mixture.weights
    assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
    assert not (weights * (chunks == 0)).any()
    assert not torch.equal(weights[0, 0], chunks[0, 0])


def test_only_slots_that_several_places_share_are_mixed():
    """Four demonstrations' delimiters stand at places of their own; at six slots some must share."""
    _, slots = slots_of()
    places = [set(chunk) for chunk in chunks_by_place(slots.demo_kv.tokens)]
    rows = slots.template.mixture.weights[0, 0] > 0
    for row, mixed in zip(rows, slots.mixed, strict=True):
        assert mixed == (set(row.nonzero()[:, 0].tolist()) not in places and row.sum() > 1)
    assert slots.mixed.any() and not slots.mixed.all()
    with torch.no_grad():
        slots.logits += torch.randn(slots.logits.shape, generator=torch.Generator().manual_seed(0))
    weights = slots.prefix(1).mixture.weights
    means = slots.template.mixture.weights.expand_as(weights)
    assert torch.equal(weights[:, :, ~slots.mixed], means[:, :, ~slots.mixed])
    assert not torch.equal(weights[:, :, slots.mixed], means[:, :, slots.mixed])


def distance(bench: Workbench, prefix: KVPrefix) -> float:
    return kl(bench.teacher_on_probes, log_probs(bench.lm, bench.probes, prefix)).mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("within", ["none", "all"])
def test_training_comes_nearer_to_the_teacher(within):
    """Without an OFF term, so that there is one thing to get better at."""
    bench = bench_of(
        "phase3.loss.lambda_off=0", "phase3.dual.enabled=false", f"phase3.least.within_chunks={within}",
        "phase3.optim.steps=16",
    )  # fmt: skip
    start = least_slots(bench, SLOTS).prefix(1)
    end = train(bench, slots=SLOTS)[0].prefix
    assert distance(bench, end) < 0.9 * distance(bench, start)
    assert end.mixture.log_bias is not None and not end.keys.requires_grad


@pytest.mark.slow
def test_two_trainings_are_equal():
    first, again = (train(bench_of("phase3.optim.steps=2"), slots=SLOTS)[0].prefix for _ in range(2))
    assert torch.equal(first.keys, again.keys) and torch.equal(first.values, again.values)
