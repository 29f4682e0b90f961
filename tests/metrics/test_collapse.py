import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cedkv.metrics import attribution_overlap, collapse_summary, effective_rank, slot_cosine


def slots_of(*rows: list[float]) -> torch.Tensor:
    """One layer, one head, the given slot vectors."""
    return torch.tensor(rows)[None, None]


def random_slots(slots: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(3, 2, slots, 16, generator=torch.Generator().manual_seed(seed))


def with_copies(x: torch.Tensor, *pairs: tuple[int, int]) -> torch.Tensor:
    """The slots with the second of each pair, counted from 1, replaced by a scaled copy of the first."""
    x = x.clone()
    for source, target in pairs:
        x[:, :, target - 1] = 2 * x[:, :, source - 1]
    return x


def test_slot_cosine_by_hand():
    cosine = slot_cosine(slots_of([1.0, 0.0], [3.0, 3.0], [0.0, -2.0]))
    half = math.sqrt(0.5)
    torch.testing.assert_close(cosine, torch.tensor([[1, half, 0], [half, 1, -half], [0, -half, 1]]))


def test_slot_cosine_is_the_mean_over_layers_and_heads():
    x = random_slots(5)
    expected = torch.stack(
        [F.cosine_similarity(head[:, None], head[None], dim=-1) for layer in x for head in layer]
    ).mean(0)
    torch.testing.assert_close(slot_cosine(x), expected)


def test_slot_cosine_weighs_every_head_alike_whatever_its_scale():
    x = random_slots(4)
    rescaled = x * torch.tensor([1.0, 100.0])[None, :, None, None]
    flat = rescaled.movedim(2, 0).flatten(1)
    torch.testing.assert_close(slot_cosine(rescaled), slot_cosine(x))
    assert not torch.allclose(slot_cosine(x), F.cosine_similarity(flat[:, None], flat[None], dim=-1), atol=1e-2)


def test_slot_cosine_of_a_zero_slot_is_zero():
    assert slot_cosine(slots_of([0.0, 0.0], [1.0, 0.0])).tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_attribution_overlap_by_hand():
    weights = torch.tensor([[[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]], [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    # One shares 0.25 + 0.25, the other nothing, be they two layers or two heads of one.
    expected = torch.tensor([[1.0, 0.25], [0.25, 1.0]])
    torch.testing.assert_close(attribution_overlap(weights[:, None]), expected)
    torch.testing.assert_close(attribution_overlap(weights[None]), expected)


def test_attribution_overlap_is_of_each_head_and_not_of_their_mean():
    """Two slots that swap two tokens between two heads have the same mean and no token in common anywhere."""
    weights = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]])
    assert torch.equal(*weights.mean(1)[0])
    assert attribution_overlap(weights).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_attribution_overlap_is_one_minus_total_variation():
    weights = torch.randn(4, 3, 6, 20, generator=torch.Generator().manual_seed(1)).softmax(-1)
    total_variation = torch.cdist(weights, weights, p=1).mean(dim=(0, 1)) / 2
    torch.testing.assert_close(attribution_overlap(weights), 1 - total_variation)


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_effective_rank_of_orthogonal_slots_is_their_number(slots):
    assert effective_rank(3 * torch.eye(8)[None, None, :slots]) == pytest.approx(slots, rel=1e-5)


def test_effective_rank_of_copies_is_one_and_of_nothing_zero():
    assert effective_rank(slots_of([1.0, 2.0], [2.0, 4.0], [-1.0, -2.0])) == pytest.approx(1.0, abs=1e-4)
    assert effective_rank(torch.zeros(1, 1, 3, 4)) == 0.0


def test_effective_rank_by_hand_uses_singular_values_and_not_their_squares():
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    of_squares = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert effective_rank(slots_of([3.0, 0.0], [0.0, 1.0])) == pytest.approx(math.exp(entropy), rel=1e-5)
    assert math.exp(entropy) != pytest.approx(math.exp(of_squares), rel=0.1)


def test_effective_rank_agrees_with_numpy_on_the_slot_matrix():
    x = random_slots(6)
    matrix = np.stack([x[:, :, slot].numpy().ravel() for slot in range(6)])
    share = np.linalg.svd(matrix, compute_uv=False)
    share /= share.sum()
    assert effective_rank(x) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-5)


def test_summary_numbers_by_hand():
    keys = slots_of([1.0, 0.0], [0.0, 1.0], [0.0, -1.0])
    values = slots_of([1.0, 0.0], [2.0, 0.0], [0.0, 1.0])
    weights = torch.tensor([[[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]]])
    summary = collapse_summary(keys, values, weights)
    assert summary == {
        "key_cosine_max": 0.0,
        "key_cosine_mean": pytest.approx(-1 / 3),
        "value_cosine_max": pytest.approx(1.0),
        "value_cosine_mean": pytest.approx(1 / 3),
        "overlap_max": pytest.approx(0.9),
        "overlap_mean": pytest.approx(1 / 3),
        "effective_rank_keys": pytest.approx(effective_rank(keys)),
        "effective_rank_values": pytest.approx(effective_rank(values)),
        "near_copies": [[0, 1]],
        "verdict": "slots 1 and 2 are near copies",
    }


def test_summary_ignores_the_diagonal():
    summary = collapse_summary(slots_of([1.0, 0.0], [0.0, 1.0]), slots_of([1.0, 0.0], [0.0, 1.0]), None)
    assert (summary["value_cosine_max"], summary["value_cosine_mean"]) == (0.0, 0.0)
    assert (summary["overlap_max"], summary["overlap_mean"]) == (None, None)
    assert summary["verdict"] == "both slots differ"


def test_slots_of_equal_value_but_other_tokens_are_no_near_copies():
    values = with_copies(random_slots(8), (3, 5))
    disjoint = torch.eye(8)[None, None]
    assert collapse_summary(values, values, None)["near_copies"] == [[2, 4]]
    assert collapse_summary(values, values, disjoint)["near_copies"] == []
    assert collapse_summary(values, values, disjoint)["verdict"] == "all 8 slots differ"


@pytest.mark.parametrize(("shared", "near_copies"), [(0.75, []), (0.85, [[0, 1]])])
def test_near_copies_share_more_than_four_fifths_of_their_weight(shared, near_copies):
    x = with_copies(random_slots(2), (1, 2))
    weights = torch.tensor([[[[1.0, 0.0], [shared, 1 - shared]]]])
    assert collapse_summary(x, x, weights)["near_copies"] == near_copies


def test_slots_of_equal_tokens_but_other_values_are_no_near_copies():
    x = random_slots(3)
    assert collapse_summary(x, x, torch.full((1, 1, 3, 4), 0.25))["near_copies"] == []


def test_equal_keys_alone_make_no_near_copies():
    keys = with_copies(random_slots(4), (1, 2))
    summary = collapse_summary(keys, random_slots(4, seed=1), None)
    assert summary["key_cosine_max"] == pytest.approx(1.0)
    assert summary["near_copies"] == []


@pytest.mark.parametrize(
    ("copies", "verdict"),
    [
        ([], "all 8 slots differ"),
        ([(3, 5)], "slots 3 and 5 are near copies"),
        ([(3, 5), (1, 8)], "slots 1 and 8 are near copies; slots 3 and 5 are near copies"),
        ([(2, 4), (2, 7)], "slots 2, 4 and 7 are near copies"),
        ([(1, slot) for slot in range(2, 9)], "all 8 slots are near copies"),
    ],
)
def test_the_verdict_counts_slots_from_one(copies, verdict):
    x = with_copies(random_slots(8), *copies)
    assert collapse_summary(x, x, None)["verdict"] == verdict


def test_two_groups_joined_by_a_later_pair_are_told_as_one():
    # at 17 degrees apart neighbours are near copies (cosine 0.956), the others are not
    angles = [math.radians(17 * step) for step in (0, 3, 1, 2)]
    x = slots_of(*[[math.cos(angle), math.sin(angle)] for angle in angles])
    summary = collapse_summary(x, x, None)
    assert summary["near_copies"] == [[0, 2], [1, 3], [2, 3]]
    assert summary["verdict"] == "all 4 slots are near copies"


def test_two_equal_slots_are_named():
    x = slots_of([1.0, 2.0], [1.0, 2.0])
    assert collapse_summary(x, x, None)["verdict"] == "slots 1 and 2 are near copies"


def test_a_single_slot_has_nothing_to_collapse_onto():
    summary = collapse_summary(random_slots(1), random_slots(1), torch.ones(3, 2, 1, 1))
    names = ("key_cosine", "value_cosine", "overlap")
    assert [summary[f"{name}_{part}"] for name in names for part in ("max", "mean")] == [0.0] * 6
    assert summary["effective_rank_values"] == pytest.approx(1.0)
    assert summary["near_copies"] == []
    assert summary["verdict"] == "a single slot: nothing to compare"


def test_half_precision_slots_give_the_same_verdict():
    x = with_copies(random_slots(8), (3, 5)).bfloat16()
    assert collapse_summary(x, x, None)["verdict"] == "slots 3 and 5 are near copies"
