"""The warm start that matches attention outputs: exact where it can be, and worth having where it cannot."""

import pytest
import torch

from cedkv.lm import read_attention
from cedkv.methods.ced import mixture_slots
from cedkv.methods.warm import warm_up
from cedkv.slots.base import detached
from cedkv.slots.matching import Matching, MatchingTarget, choose_start
from tests.optim.trainings import SLOTS, bench_with, ced

WARM = ["phase3.optim.matching_iterations=20", "phase3.optim.matching_off_weight=0", "phase3.optim.topk_schedule=[8]"]

# Dimensions of `[layers, kv_heads]` that share one mixture.
SHARED_BY = {"per_head": (), "per_layer": (1,), "shared": (0, 1)}


class Copies:
    """Slots that are the teacher's own tokens: nothing is left to match."""

    def __init__(self, prefix) -> None:
        self.prefix = lambda top_k: prefix


def test_the_teachers_own_tokens_match_it_exactly():
    bench = bench_with()
    reading = bench.teacher_reading
    target = MatchingTarget.of(reading, reading.outputs(reading.prefix_scores, bench.teacher.values), bench.lm.kv_heads)
    assert target.distance(bench.lm, Copies(bench.teacher), 1).abs().max() < 1e-6
    half = bench.teacher.without(list(range(bench.teacher.slots // 2)))
    assert target.distance(bench.lm, Copies(half), 1).min() > 1e-5


def test_the_distance_is_that_of_the_outputs():
    bench = bench_with()
    reading, prefix = bench.teacher_reading, detached(mixture_slots(bench, SLOTS).prefix(8))
    wanted = reading.outputs(reading.prefix_scores, bench.teacher.values)
    given = reading.outputs(reading.scores_of(bench.lm, prefix), prefix.values)
    by_hand = (given - wanted).square().mean(dim=(2, 3)).view(prefix.values.shape[0], bench.lm.kv_heads, -1).mean(-1)
    target = MatchingTarget.of(reading, wanted, bench.lm.kv_heads)
    torch.testing.assert_close(target.distance(bench.lm, Copies(prefix), 8), by_hand, rtol=1e-3, atol=1e-8)


def test_it_lowers_its_error():
    bench = bench_with(*WARM)
    errors = list(warm_up(bench, mixture_slots(bench, SLOTS)))
    assert len(errors) == 20
    assert errors[-1] < 0.8 * errors[0]


def matching_of(bench) -> Matching:
    reading = bench.teacher_reading
    wanted = reading.outputs(reading.prefix_scores, bench.teacher.values)
    on = MatchingTarget.of(reading, wanted, bench.lm.kv_heads)
    return Matching(bench.lm, on, MatchingTarget.of(reading, reading.own_out, bench.lm.kv_heads), 0.5)


@pytest.mark.parametrize("scope", ["per_head", "per_layer", "shared"])
def test_every_mixture_goes_on_from_the_start_that_is_nearer(scope):
    bench = bench_with(f"phase3.mixture.scope={scope}")
    matching, slots = matching_of(bench), mixture_slots(bench, SLOTS)

    def errors() -> torch.Tensor:
        found = matching.errors(slots, 3).detach()
        for dim in SHARED_BY[scope]:
            found = found.mean(dim, keepdim=True)
        return found

    first, second = slots.starts()
    slots.set_logits(second)
    other = errors()
    slots.set_logits(first)
    as_it_was = errors()
    assert list(choose_start(matching, slots, 0, 0.1, 3)) == []
    assert not torch.allclose(as_it_was, other)
    torch.testing.assert_close(errors(), torch.minimum(as_it_was, other))


def test_each_start_is_fitted_before_one_is_chosen():
    bench = bench_with("phase3.mixture.scope=per_head")
    matching, slots = matching_of(bench), mixture_slots(bench, SLOTS)
    trace = list(choose_start(matching, slots, 5, 0.1, 3))
    first, second = trace[:5], trace[5:]
    assert len(second) == 5
    assert first[-1] < first[0] and second[-1] < second[0]
    assert matching.errors(slots, 3).mean().item() < min(first[-1], second[-1])


def test_keys_with_candidates_of_their_own_choose_the_same_start():
    bench = bench_with("phase3.mixture={scope: per_head, value_candidates: input_and_delimiter_only}")
    slots = mixture_slots(bench, SLOTS)
    list(choose_start(matching_of(bench), slots, 0, 0.1, 3))
    assert torch.equal(slots.logits, slots.key_logits)


@pytest.mark.parametrize("closed", ["value_candidates", "key_candidates"])
def test_slots_start_at_different_tokens_also_where_outputs_are_closed(closed):
    bench = bench_with(f"phase3.mixture={{scope: per_head, {closed}: input_and_delimiter_only}}")
    roles = bench.episode.tokens.roles
    for start in mixture_slots(bench, SLOTS).starts():
        leaders = start.argmax(-1)
        for row in leaders.flatten(0, 1).tolist():
            assert len(set(row)) == SLOTS
            assert "output" not in {roles[token] for token in row}


def test_off_texts_pull_the_other_way():
    bench = bench_with(*WARM)
    heavy = bench_with(*WARM, "phase3.optim.matching_off_weight=100")
    fitted = []
    for some in (bench, heavy):
        slots = mixture_slots(some, SLOTS)
        list(warm_up(some, slots))
        fitted.append(detached(slots.prefix(8)))
    reading = read_attention(
        bench.lm, [bench.lm.encode(off.text) for off in bench.episode.off_set("stress", 16).texts], None
    )
    unseen = MatchingTarget.of(reading, reading.own_out, bench.lm.kv_heads)
    light_effect, heavy_effect = (unseen.distance(bench.lm, Copies(prefix), 8).mean() for prefix in fitted)
    assert heavy_effect < 0.9 * light_effect


@pytest.mark.parametrize("iterations", [0, 3])
def test_its_errors_are_in_the_training_record(iterations):
    record = ced(f"phase3.optim.matching_iterations={iterations}", "phase3.optim.steps=1").training
    assert len(record["attention_matching"]) == iterations
