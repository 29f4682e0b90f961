"""Gate A notices broken plumbing: each check passes for the real thing and fails for one broken in that place."""

from dataclasses import replace

import pytest
import torch

from cedkv.config import Config
from cedkv.episodes import episode_from_config
from cedkv.evaluation import Judge
from cedkv.gate.plumbing import check_plumbing, repeat_criterion
from cedkv.methods import Workbench, extract
from cedkv.state import KVPrefix
from tests.tiny import tiny_lm


@pytest.fixture(scope="module")
def bench(small_config: Config) -> Workbench:
    lm = tiny_lm("llama")
    return Workbench(lm, episode_from_config(lm, small_config), small_config)


@pytest.fixture(scope="module")
def student(bench) -> KVPrefix:
    return extract(bench.lm, bench.episode, "select", 16, bench.config).prefix


def failures(bench: Workbench, teacher: KVPrefix, student: KVPrefix) -> list[str]:
    judge = Judge(bench.lm, bench.episode, teacher, {})
    return [row.name for row in check_plumbing(judge, student) if not row.passed]


def test_sound_plumbing_passes(bench, student):
    assert failures(bench, bench.teacher, student) == []


def tampered_value(cache: KVPrefix) -> KVPrefix:
    return cache.scaled(slot=5, factor=1.5)


def shifted_positions(cache: KVPrefix) -> KVPrefix:
    """The mistake of rotating keys to the wrong places: all but the first token one place further."""
    positions = cache.positions.clone()
    positions[1:] += 1
    return replace(cache, positions=positions, query_start=cache.query_start + 1)


def exchanged_tokens(cache: KVPrefix) -> KVPrefix:
    order = torch.arange(cache.slots)
    order[[4, 9]] = order[[9, 4]]
    return replace(cache, keys=cache.keys[:, :, order], values=cache.values[:, :, order])


def lost_layer(cache: KVPrefix) -> KVPrefix:
    return cache.with_injection_layers([0, 1, 2])


@pytest.mark.parametrize("tamper", [tampered_value, shifted_positions, exchanged_tokens, lost_layer])
def test_a_tampered_cache_is_no_longer_the_teacher(bench, student, tamper):
    assert failures(bench, tamper(bench.teacher), student) == ["teacher_incremental_consistency"]


def test_a_student_that_does_nothing_is_noticed(bench, student):
    assert failures(bench, bench.teacher, student.without(list(range(student.slots)))) == ["nonzero_effect"]


@pytest.mark.parametrize(("accuracies", "passes"), [([0.5, 0.5], True), ([0.5, 0.6], False), ([0.6, 0.5], False)])
def test_repeats_must_agree_within_the_tolerance(accuracies, passes):
    assert repeat_criterion(accuracies, tolerance=0.05).passed is passes


def test_a_tolerance_allows_that_much():
    assert repeat_criterion([0.5, 0.53], tolerance=0.05).passed
