"""Free-KV: slots without the mixture's constraint, from the same start and on the same loss."""

import pytest
import torch

from cedkv.lm import log_probs
from cedkv.methods.warm import warm_prefix
from cedkv.metrics import kl
from cedkv.slots.free import FreeSlots
from tests.optim.trainings import SLOTS, bench_with, train


def free(*overrides: str):
    bench = bench_with(*overrides)
    return bench, train(bench, "free")[0]


def test_the_frozen_sink_stays_bitwise_and_the_others_move():
    bench, extraction = free("phase3.optim.free_sink=true")
    warm = warm_prefix(bench, SLOTS)
    for trained, start in ((extraction.prefix.keys, warm.keys), (extraction.prefix.values, warm.values)):
        assert torch.equal(trained[:, :, 0], start[:, :, 0])
        assert (trained[:, :, 1:] != start[:, :, 1:]).any(dim=(0, 1, 3)).all()


def test_without_the_sink_every_slot_moves():
    bench, extraction = free("phase3.optim.free_sink=false")
    moved = (extraction.prefix.values != warm_prefix(bench, SLOTS).values).any(dim=(0, 1, 3))
    assert moved.all()


def test_it_starts_where_the_mixtures_start():
    warm = warm_prefix(bench_with(), SLOTS)
    start = FreeSlots.warm_start(warm, 0.1, frozen_sink=True).prefix(top_k=4)
    assert torch.equal(start.keys, warm.keys.float())
    assert torch.equal(start.values, warm.values.float())


def test_it_has_no_mixture_to_read_and_no_structure_to_pay_for():
    _, extraction = free()
    assert extraction.prefix.mixture is None
    assert {step["loss_str"] for step in extraction.training["steps"]} == {0.0}
    assert extraction.training["ticks"][0]["role_mass"] == {}


def test_top_k_means_nothing_to_it():
    slots = FreeSlots.warm_start(warm_prefix(bench_with(), SLOTS), 0.1, frozen_sink=False)
    slots.parameters[1].data.normal_()
    assert torch.equal(slots.prefix(1).values, slots.prefix(99).values)


@pytest.mark.parametrize("size", [1.0, 10.0])
def test_a_parameter_is_in_units_of_each_heads_own_size(size):
    warm = warm_prefix(bench_with(), SLOTS)
    scaled = warm.with_tensors(warm.keys * size, warm.values * size)
    slots = FreeSlots.warm_start(scaled, 0.1, frozen_sink=False)
    slots.parameters[1].data.fill_(0.5)
    moved = slots.prefix(4).values - scaled.values
    by_hand = 0.5 * scaled.values.square().mean(dim=(2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(moved, by_hand.expand_as(moved), atol=1e-4, rtol=1e-4)


def test_training_brings_it_nearer_to_the_teacher():
    bench, extraction = free("phase3.optim.steps=16", "phase3.loss.lambda_off=0.01")
    distances = [
        kl(bench.teacher_on_probes, log_probs(bench.lm, bench.probes, prefix)).mean().item()
        for prefix in (warm_prefix(bench, SLOTS), extraction.prefix)
    ]
    assert distances[1] < 0.8 * distances[0]
