import pytest
import torch
from torch.distributions import Categorical

from cedkv.metrics import answer_logprob, exact_match, first_token_correct


def test_first_token_is_correct_when_the_gold_token_is_the_most_likely():
    log_probs = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6]]).log()
    correct = first_token_correct(log_probs, torch.tensor([1, 1, 2]))
    assert correct.dtype == torch.bool
    assert correct.tolist() == [True, False, True]


def test_exact_match_ends_an_answer_at_the_first_newline():
    assert exact_match([" jumped\n\nQ: lift\nA: lifted"], [" jumped"]) == [True]


def test_exact_match_without_the_cut_would_fail():
    generated, gold = " jumped\n\nQ: lift", " jumped"
    assert generated.strip() != gold.strip()
    assert exact_match([generated], [gold], stop="\n\n") == [True]
    assert exact_match([generated], [gold], stop=";") == [False]


@pytest.mark.parametrize(
    ("generated", "gold", "matches"),
    [
        ("  jumped ", "jumped", True),
        (" jumped up", " jumped", False),
        (" jump", " jumped", False),
        (" Jumped", " jumped", False),
        ("\n jumped", " jumped", False),
        ("", " jumped", False),
        (" New  York", " New York", False),
    ],
)
def test_exact_match_compares_the_whole_stripped_answer(generated, gold, matches):
    assert exact_match([generated], [gold]) == [matches]


def test_gold_and_generated_text_are_cut_by_one_rule():
    assert exact_match([" a\nb"], [" a\nb"]) == [True]
    assert exact_match([" a\nb\n\nQ:", " a\nc\n\nQ:"], [" a\nb"] * 2, stop="\n\n") == [True, False]


def test_exact_match_keeps_the_order_and_refuses_unequal_numbers():
    assert exact_match(["a", "b", "c"], ["a", "x", "c"]) == [True, False, True]
    with pytest.raises(ValueError):
        exact_match(["a", "b"], ["a"])


def test_answer_logprob_is_the_log_of_the_product_of_the_token_probabilities():
    log_probs = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]).log()
    assert answer_logprob(log_probs, torch.tensor([1, 2])).exp().item() == pytest.approx(0.25 * 0.8)
    assert answer_logprob(log_probs, torch.tensor([2, 1])).exp().item() == pytest.approx(0.25 * 0.1)


def test_answer_logprob_agrees_with_torch_distributions():
    logits = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    answer = torch.tensor([3, 0, 29, 3])
    expected = Categorical(logits=logits).log_prob(answer).sum()
    torch.testing.assert_close(answer_logprob(logits.log_softmax(-1), answer), expected)


def test_answer_logprob_sums_half_precision_in_fp32_and_is_differentiable():
    log_probs = torch.full((300, 2), -0.6953125, dtype=torch.bfloat16, requires_grad=True)
    total = answer_logprob(log_probs, torch.zeros(300, dtype=torch.long))
    total.backward()
    assert total.item() == pytest.approx(300 * -0.6953125)
    assert log_probs.grad.float().tolist() == [[1.0, 0.0]] * 300
