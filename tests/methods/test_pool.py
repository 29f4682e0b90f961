"""The hard pool holds what the student disturbs most, and nothing that a gate will read."""

import pytest
import torch

import cedkv.episodes.episode
import cedkv.methods.objective
import cedkv.methods.warm
from cedkv.episodes import Episode
from cedkv.episodes.off import NearFormat, off_stream, sample_off
from cedkv.lm import log_probs
from cedkv.methods.pool import HardPool
from cedkv.metrics import kl
from tests.optim.trainings import SLOTS, bench_with, train, training_of
from tests.tolerance import FORWARD, forward

STRESS_SIZES = (8, 64, 256)
STRESS_SEEDS = (0, 1, 7)


@pytest.fixture
def bench():
    return bench_with()


def test_the_mined_texts_are_the_largest_of_all_candidates(bench):
    near = NearFormat(bench.episode.template.text)
    stream = off_stream("pool", bench.episode.seed, near)
    candidates = [next(stream).text for _ in range(60)]
    ids = [bench.lm.encode(text) for text in candidates]
    effect = kl(log_probs(bench.lm, ids, bench.teacher), log_probs(bench.lm, ids))
    hardest = [candidates[index] for index in effect.argsort(descending=True)[:10].tolist()]

    pool = HardPool.open(bench.lm, bench.episode, 10)
    kept = pool.refill(bench.teacher, 60)
    assert [text.off.text for text in pool.texts] == hardest
    assert kept == pytest.approx(effect.sort(descending=True).values[:10].tolist(), abs=forward())


def test_refilling_keeps_the_hardest_of_old_and_new(bench):
    once, twice = (HardPool.open(bench.lm, bench.episode, 10) for _ in range(2))
    once.refill(bench.teacher, 60)
    for _ in range(2):
        kept = twice.refill(bench.teacher, 30)
    assert {text.off.text for text in twice.texts} == {text.off.text for text in once.texts}
    assert kept == sorted(kept, reverse=True)


def test_texts_are_judged_anew_under_the_student_of_the_moment(bench):
    pool = HardPool.open(bench.lm, bench.episode, 20)
    pool.refill(bench.teacher, 20)
    other = bench.teacher.without(list(range(4, bench.teacher.slots)))
    kept = pool.refill(other, 8)
    assert pool.delta(other).tolist() == pytest.approx(kept, abs=forward())
    assert pool.delta(bench.teacher).tolist() != sorted(pool.delta(bench.teacher).tolist(), reverse=True)


def test_it_is_the_same_again_and_draws_without_repeats(bench):
    first, again = (HardPool.open(bench.lm, bench.episode, 10) for _ in range(2))
    for pool in (first, again):
        pool.refill(bench.teacher, 30)
    draws = [[text.off.text for text in pool.sample(6)] for pool in (first, again)]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 6


def test_the_base_is_read_once_and_rightly(bench):
    pool = HardPool.open(bench.lm, bench.episode, 10)
    pool.refill(bench.teacher, 10)
    base = log_probs(bench.lm, [text.ids for text in pool.texts])
    torch.testing.assert_close(torch.cat([text.base for text in pool.texts]), base, **FORWARD)


def test_several_positions_of_a_text_are_read_but_not_that_after_its_first_token(bench):
    pool = HardPool.open(bench.lm, bench.episode, 10, reads=6)
    pool.refill(bench.teacher, 10)
    for text in pool.texts:
        assert len(text.base) == max(1, min(6, len(text.ids) - 1))
        ends = [text.ids[: len(text.ids) - back] for back in reversed(range(len(text.base)))]
        torch.testing.assert_close(text.base, log_probs(bench.lm, ends), **FORWARD)


def texts_touched(monkeypatch, seed: int) -> set[str]:
    """Every text that a whole training learns from: what it draws, mines, steps on, and warms up with."""
    touched: set[str] = set()
    stream_of, step_on = cedkv.episodes.episode.off_stream, cedkv.methods.objective.packed_logits
    read = cedkv.methods.warm.read_attention

    def watched_stream(*arguments):
        for off in stream_of(*arguments):
            touched.add(off.text)
            yield off

    def watched_step(lm, queries, *arguments):
        touched.update(lm.decode(list(query)) for query in queries)
        return step_on(lm, queries, *arguments)

    def watched_reading(lm, queries, *arguments, **options):
        touched.update(lm.decode(list(query)) for query in queries)
        return read(lm, queries, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(cedkv.methods.warm, "read_attention", watched_reading)
        patch.setattr(cedkv.episodes.episode, "off_stream", watched_stream)
        patch.setattr(cedkv.methods.objective, "packed_logits", watched_step)
        bench = bench_with(f"run.seed={seed}", "phase3.optim.matching_iterations=1")
        train(bench)
    touched |= {query.text for query in bench.episode.on_train}
    return touched


def leaks(touched: set[str]) -> set[str]:
    """Texts of training that some fixed stress eval holds too."""
    near = NearFormat(bench_with().episode.template.text)
    sets = [sample_off("stress", size, seed, near) for size in STRESS_SIZES for seed in STRESS_SEEDS]
    return touched & {off.text for texts in sets for off in texts.texts}


@pytest.mark.parametrize("seed", [0, 7])
def test_nothing_that_training_touches_is_in_any_stress_eval(monkeypatch, seed):
    touched = texts_touched(monkeypatch, seed)
    assert len(touched) >= 6 + 2 * 12, "the ON queries, two fills of the pool and what the warm start reads"
    assert leaks(touched) == set()


def test_a_pool_that_draws_from_the_stress_split_is_caught(monkeypatch):
    real = off_stream
    monkeypatch.setattr(cedkv.episodes.episode, "off_stream", lambda _split, seed, near: real("stress", seed, near))
    assert leaks(texts_touched(monkeypatch, seed=0))


def test_what_is_stepped_on_comes_from_the_pool(monkeypatch):
    training = training_of()
    pooled = {text.off.text for text in training.objective.pool.texts}
    assert {text.off.text for text in training.objective.pool.sample(SLOTS)} <= pooled


def test_a_warm_start_on_stress_texts_is_caught(monkeypatch):
    real = Episode.off_set
    monkeypatch.setattr(Episode, "off_set", lambda self, _split, size: real(self, "stress", size))
    assert leaks(texts_touched(monkeypatch, seed=0))
