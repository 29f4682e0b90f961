"""A slot's weight: what a log-bias means, and how nearly a key carries it."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cedkv.episodes.off import calibration_texts
from cedkv.lm import log_probs, read_attention
from cedkv.lm.weighing import MAX_ERROR, WeightDirections, fit_directions, weight_directions
from cedkv.state import KVPrefix
from tests.lm.biased import biased_log_probs
from tests.tiny import HEAD_DIM, KV_HEADS, LAYERS

TOLERANCE = {"atol": 1e-4, "rtol": 0.0}
HEADS = 4
TEXTS = [text[:90] for text in calibration_texts()[:16]]
FRESH = [text[:90] for text in calibration_texts()[16:]]


@pytest.fixture
def short(demo_kv) -> KVPrefix:
    """Five slots right before the query, which no sliding window hides from a short one."""
    some = [0, 7, 12, 20, 31]
    prefix = demo_kv.as_prefix()
    return replace(
        prefix,
        keys=prefix.keys[:, :, some],
        values=prefix.values[:, :, some],
        positions=torch.arange(5),
        query_start=5,
        active=prefix.active[:, some],
        mixture=None,
    )


def times(prefix: KVPrefix, slot: int, count: int) -> KVPrefix:
    """The prefix with one slot there several times, all of them at its position."""
    chosen = [*range(prefix.slots), *[slot] * (count - 1)]
    return replace(
        prefix,
        keys=prefix.keys[:, :, chosen],
        values=prefix.values[:, :, chosen],
        positions=prefix.positions[chosen],
        active=prefix.active[:, chosen],
    )


def test_a_bias_of_log_n_is_the_slot_n_times(tiny, short, queries):
    bias = torch.zeros(HEADS, short.slots)
    for query in queries[:2]:
        assert_close(biased_log_probs(tiny, query, short, bias), log_probs(tiny, [query], short)[0], **TOLERANCE)
    bias[:, 3] = torch.tensor(7.0).log()
    for query in queries[:2]:
        seven = log_probs(tiny, [query], times(short, 3, 7))[0]
        assert_close(biased_log_probs(tiny, query, short, bias), seven, **TOLERANCE)
        assert (seven - log_probs(tiny, [query], short)[0]).abs().max() > 0.01


@pytest.fixture
def directions(tiny) -> WeightDirections:
    """Fitted, and used in every head: random queries share little, so that errors are large and reported as such."""
    return fit_directions(tiny, TEXTS)


def raised(tiny, directions: WeightDirections, positions: torch.Tensor, query_start: int, moved: bool = True):
    """By how much scores rise per unit of bias: rows of fresh texts, heads of one key/value head together."""
    everywhere = replace(directions, error=torch.zeros_like(directions.error))
    shift = everywhere.at(tiny, positions, query_start)
    if not moved:
        shift = directions.fitted[:, :, None].expand_as(shift)
    active = torch.ones(LAYERS, len(positions), dtype=torch.bool)
    reading = read_attention(tiny, [tiny.encode(text)[:64] for text in FRESH], None)
    # The text's first token stands where the last slot would: behind it begins what the slots' queries are.
    reading = replace(reading, query_start=1)
    scores = reading.scores_of(tiny, KVPrefix(shift, shift, positions, query_start, active, ""))
    kept = torch.ones(scores.shape[2], dtype=torch.bool)
    kept[[0, *(reading.last[:-1] + 1).tolist()]] = False
    return scores[:, :, kept].unflatten(1, (KV_HEADS, -1)).flatten(2, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("positions", "query_start"), [([0], 1), ([0, 3, 6], 7), ([40], 43)])
def test_a_key_raises_scores_as_nearly_as_is_reported(tiny, directions, positions, query_start):
    """Wherever the slots stand: errors on texts that nobody has seen are those that were measured."""
    scores = raised(tiny, directions, torch.tensor(positions), query_start)
    assert scores.shape[-1] == len(positions)
    error = (scores - 1).square().mean(2).sqrt()
    assert_close(error, directions.error[..., None].expand_as(error), atol=0.12, rtol=0.0)


@pytest.mark.slow
def test_a_query_feels_a_weight_alike_wherever_the_slot_stands(tiny, directions):
    """The broken variant: a direction that is not turned to the slot's place."""
    near, far = (raised(tiny, directions, torch.tensor([place]), 30) for place in (29, 9))
    assert_close(near, far, **TOLERANCE)
    near, far = (raised(tiny, directions, torch.tensor([place]), 30, moved=False) for place in (29, 9))
    assert (near - far).abs().max() > 0.1


def test_a_head_with_a_large_error_carries_no_weight(tiny):
    fitted = torch.randn(LAYERS, KV_HEADS, HEAD_DIM, generator=torch.Generator().manual_seed(0))
    error = torch.full((LAYERS, KV_HEADS), 0.1)
    error[2, 1] = MAX_ERROR + 0.01
    shift = WeightDirections(fitted, error).at(tiny, torch.arange(3), 3)
    assert (shift[2, 1] == 0).all()
    assert shift.abs().amax(dim=(2, 3)).count_nonzero() == LAYERS * KV_HEADS - 1


def test_a_cache_that_cannot_be_written_does_not_end_what_needs_the_directions(tiny, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("CEDKV_CACHE", str(tmp_path / "cache"))
    assert weight_directions(tiny, TEXTS[:4]).error.isfinite().all()


def test_directions_are_fitted_once_and_read_again(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("CEDKV_CACHE", str(tmp_path))
    made = weight_directions(tiny, TEXTS[:4])
    (file,) = (tmp_path / "directions").iterdir()
    monkeypatch.setattr("cedkv.lm.weighing.fit_directions", None)
    again = weight_directions(tiny, TEXTS[:4])
    assert torch.equal(made.fitted, again.fitted) and torch.equal(made.error, again.error)
    monkeypatch.undo()
    monkeypatch.setenv("CEDKV_CACHE", str(tmp_path))
    file.write_bytes(file.read_bytes()[:100])
    repaired = weight_directions(tiny, TEXTS[:4])
    assert torch.equal(repaired.fitted, made.fitted)
    weight_directions(tiny, TEXTS[1:5])
    assert len(list((tmp_path / "directions").iterdir())) == 2
