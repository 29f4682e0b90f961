"""The divergences that slots are trained on: by hand, and that they run the right way."""

import math

import pytest
import torch

from cedkv.methods.objective import off_loss, on_loss

HALF = torch.tensor([0.5, 0.5]).log()
SKEWED = torch.tensor([0.9, 0.1]).log()
# KL(half || skewed) and KL(skewed || half), nats.
KL_HALF_SKEWED = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
KL_SKEWED_HALF = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)


def test_on_is_the_mean_divergence_from_the_teacher():
    student, teacher = torch.stack([SKEWED, HALF]), torch.stack([HALF, HALF])
    assert on_loss(student, teacher, [1, 1]).item() == pytest.approx(KL_HALF_SKEWED / 2)


def test_what_follows_the_first_token_is_added_to_it_and_not_averaged_in():
    """An answer whose first token is right, and one whose first token is wrong, each with two rows after it."""
    teacher = torch.stack([HALF] * 3)
    end_is_wrong, first_is_wrong = torch.stack([HALF, HALF, SKEWED]), torch.stack([SKEWED, HALF, HALF])
    assert on_loss(end_is_wrong, teacher, [3]).item() == pytest.approx(KL_HALF_SKEWED / 2)
    assert on_loss(first_is_wrong, teacher, [3]).item() == pytest.approx(KL_HALF_SKEWED)
    both = on_loss(torch.cat([first_is_wrong, SKEWED[None]]), torch.stack([HALF] * 4), [3, 1])
    assert both.item() == pytest.approx(KL_HALF_SKEWED)


def test_off_is_the_effect_on_the_worst_texts():
    student, base = torch.stack([SKEWED, HALF, HALF, HALF]), torch.stack([HALF] * 4)
    assert off_loss(student, base, 1.0).item() == pytest.approx(KL_SKEWED_HALF / 4)
    assert off_loss(student, base, 0.5).item() == pytest.approx(KL_SKEWED_HALF / 2)
    assert off_loss(student, base, 0.25).item() == pytest.approx(KL_SKEWED_HALF)


def test_the_two_divergences_run_in_opposite_directions():
    student, other = SKEWED[None], HALF[None]
    assert pytest.approx(KL_SKEWED_HALF, rel=0.05) != KL_HALF_SKEWED
    assert on_loss(student, other, [1]).item() == pytest.approx(KL_HALF_SKEWED)
    assert off_loss(student, other, 1.0).item() == pytest.approx(KL_SKEWED_HALF)
