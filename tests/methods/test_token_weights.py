"""Weights of answer tokens in `L_on`: who gets them, that they count, and that none are given where nothing is said."""

from dataclasses import replace

import pytest
import torch

from cedkv.config import load_config
from cedkv.methods.objective import OnTargets, on_loss
from cedkv.methods.token_weights import weigh_with

# Two queries, answers of two rows and of one, over four tokens.
TEACHER = [
    torch.tensor([[6.0, 0, 0, 0], [0, 6.0, 0, 0]]).log_softmax(-1),
    torch.tensor([[0, 0, 6.0, 0]]).log_softmax(-1),
]
READS = [2, 1]


def student_behind_on(row: int) -> list[torch.Tensor]:
    """The teacher's own answers, but for one row, of which the student knows nothing."""
    rows = torch.cat(TEACHER)
    rows[row] = torch.zeros(4).log_softmax(-1)
    return list(rows.split(READS))


def test_nothing_said_is_no_weights():
    assert load_config().phase3.loss.token_weights == "uniform"
    assert weigh_with("uniform") is None


@pytest.mark.parametrize("behind", range(3))
def test_rho1_weighs_the_token_on_which_the_slots_are_behind(behind):
    weights = weigh_with("rho1")(student_behind_on(behind), TEACHER, [])
    assert weights.mean().item() == pytest.approx(1) and weights.argmax() == behind
    student, teacher = torch.cat(student_behind_on(behind)), torch.cat(TEACHER)
    assert on_loss(student, teacher, READS, weights) == pytest.approx(
        weights[behind].item() * on_loss(student, teacher, READS).item()
    )


def test_critic_weighs_the_token_that_changes_its_mind():
    values = [torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.5, 0.9])]
    weights = weigh_with("critic")(TEACHER, TEACHER, values)
    assert weights.mean().item() == pytest.approx(1) and weights.argmax() == 2 and weights[0] == weights[1]


def test_weights_of_one_are_the_plain_loss():
    student, teacher = torch.cat(student_behind_on(1)), torch.cat(TEACHER)
    assert torch.equal(on_loss(student, teacher, READS, torch.ones(3)), on_loss(student, teacher, READS))


def test_a_critics_values_are_of_the_queries_that_a_step_draws():
    ids, reads, values = [(3, 4), (3, 5, 6), (3, 7)], [1, 2, 1], [torch.rand(read + 1) for read in (1, 2, 1)]
    targets = OnTargets(ids, reads, [torch.zeros(read, 4) for read in reads], values)
    assert torch.equal(targets.rows([2]).values[0], values[2])
    assert replace(targets, values=[]).rows([2]).values == []
