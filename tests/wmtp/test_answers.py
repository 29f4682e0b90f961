"""Weights of answer tokens, whoever is trained to give them."""

import pytest
import torch

from cedkv.errors import ConfigError
from cedkv.wmtp.answers import _another, answer_scorer, answer_values, weigh_answers
from tests.tiny import tiny_lm


def test_rho1_weighs_the_tokens_that_the_reference_finds_easier():
    tokens, easy = [torch.tensor([5, 6]), torch.tensor([7])], [torch.tensor([0.1, 0.1]), torch.tensor([0.1])]
    hard = [torch.tensor([0.1, 3.0]), torch.tensor([0.1])]
    weights = weigh_answers(answer_scorer("rho1"), tokens, hard, easy, [])
    assert weights.mean().item() == pytest.approx(1) and weights.argmax() == 1


def test_uniform_has_no_scorer():
    assert answer_scorer("uniform") is None


def test_a_wrong_answer_is_the_nearest_that_is_not_the_right_one():
    """A relation of two answers repeats them: a neighbour's is right as often as not."""
    yes, no = (1, 2), (3,)
    answers = [yes, no, no, yes]
    assert [_another(answers, place) for place in range(4)] == [no, yes, yes, no]


def test_a_critic_of_answers_that_are_all_the_same_is_refused():
    with pytest.raises(ConfigError, match="all are the same; use uniform"):
        answer_values(tiny_lm(), [(5, 6, 7), (8, 6, 7)], [1, 1])


def test_a_critic_has_a_value_before_every_answer_and_after_each_of_its_tokens():
    lm = tiny_lm()
    texts = [(f"Q: {word}\nA:", f" {word}ed") for word in ("lift", "walk", "jump", "open", "bake")]
    answers = [lm.encode(answer) for _, answer in texts]
    ids = [(*lm.encode(query), *answer) for (query, _), answer in zip(texts, answers, strict=True)]
    values = answer_values(lm, ids, list(map(len, answers)))
    assert [len(row) for row in values] == [len(answer) + 1 for answer in answers]
    assert all(0 < value < 1 for row in values for value in row.tolist())
