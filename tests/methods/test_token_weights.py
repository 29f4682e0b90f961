"""Weights of answer tokens in `L_on`: who gets them, that they count, and that none are given where nothing is said."""

from dataclasses import replace

import pytest
import torch

from cedkv.config import load_config
from cedkv.methods.objective import OnTargets, on_loss
from cedkv.methods.token_weights import answer_values, weigh_with
from tests.tiny import tiny_lm

# Two queries, answers of two rows and of one, over four tokens.
TEACHER = [
    torch.tensor([[6.0, 0, 0, 0], [0, 6.0, 0, 0]]).log_softmax(-1),
    torch.tensor([[0, 0, 6.0, 0]]).log_softmax(-1),
]


def student_behind_on(row: int) -> list[torch.Tensor]:
    """The teacher's own answers, but for one row, of which the student knows nothing."""
    rows = torch.cat(TEACHER)
    rows[row] = torch.zeros(4).log_softmax(-1)
    return list(rows.split([2, 1]))


def test_nothing_said_is_no_weights():
    assert load_config().phase3.loss.token_weights == "uniform"
    assert weigh_with("uniform") is None


@pytest.mark.parametrize("behind", range(3))
def test_rho1_weighs_the_token_on_which_the_slots_are_behind(behind):
    weights = weigh_with("rho1")(student_behind_on(behind), TEACHER, [])
    assert weights.mean().item() == pytest.approx(1) and weights.argmax() == behind
    student, teacher = torch.cat(student_behind_on(behind)), torch.cat(TEACHER)
    assert on_loss(student, teacher, weights) == pytest.approx(
        weights[behind].item() * on_loss(student, teacher).item()
    )


def test_critic_weighs_the_token_that_changes_its_mind():
    values = [torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.5, 0.9])]
    weights = weigh_with("critic")(TEACHER, TEACHER, values)
    assert weights.mean().item() == pytest.approx(1) and weights.argmax() == 2 and weights[0] == weights[1]


def test_weights_of_one_are_the_plain_loss():
    student, teacher = torch.cat(student_behind_on(1)), torch.cat(TEACHER)
    assert torch.equal(on_loss(student, teacher, torch.ones(3)), on_loss(student, teacher))


def test_a_critic_of_answers_has_a_value_before_and_after_every_token():
    lm = tiny_lm()
    texts = [(f"Q: {word}\nA:", f" {word}ed") for word in ("lift", "walk", "jump", "open", "bake")]
    answers = [lm.encode(answer) for _, answer in texts]
    ids = [(*lm.encode(query), *answer) for (query, _), answer in zip(texts, answers, strict=True)]
    reads = [len(answer) + 1 for answer in answers]
    values = answer_values(lm, ids, reads)
    assert [len(row) for row in values] == [read + 1 for read in reads]
    assert all(0 < value < 1 for row in values for value in row.tolist())
    assert all(row[-1] == row[-2] for row in values)
    targets = OnTargets(ids, reads, [torch.zeros(read, 4) for read in reads], values)
    assert torch.equal(targets.rows([2]).values[0], values[2])
    assert replace(targets, values=[]).rows([2]).values == []
