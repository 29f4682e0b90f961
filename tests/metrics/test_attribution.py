import pytest
import torch

from cedkv.metrics import role_mass, top_tokens

ROLES = ["input", "delimiter", "output", "delimiter"]
WEIGHTS = torch.tensor(
    [
        [[0.5, 0.25, 0.0, 0.25], [0.0, 0.0, 1.0, 0.0]],
        [[1.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]],
    ]
)


def test_role_mass_by_hand():
    expected = [[[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0], [0.1, 0.3, 0.6]]]
    torch.testing.assert_close(role_mass(WEIGHTS, ROLES), torch.tensor(expected))


def test_role_mass_of_a_mixture_sums_to_one():
    weights = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    torch.testing.assert_close(role_mass(weights, ROLES).sum(-1), torch.ones(3, 5))


def test_role_mass_follows_the_order_of_the_names():
    reordered = role_mass(WEIGHTS, ROLES, names=("delimiter", "input", "output", "separator"))
    torch.testing.assert_close(reordered[..., [1, 2, 0]], role_mass(WEIGHTS, ROLES))
    assert reordered[..., 3].eq(0).all()


def test_role_mass_refuses_a_role_whose_mass_would_be_lost():
    with pytest.raises(ValueError, match="token 2 has the role 'output', known are input, delimiter"):
        role_mass(WEIGHTS, ROLES, names=("input", "delimiter"))


def test_top_tokens_are_listed_heaviest_first():
    (slot,) = top_tokens(torch.tensor([[0.1, 0.5, 0.0, 0.4]]), k=2)
    assert [token for token, _ in slot] == [1, 3]
    assert [weight for _, weight in slot] == pytest.approx([0.5, 0.4])


def test_top_tokens_leave_out_zero_weights():
    assert top_tokens(torch.tensor([[0.0, 0.75, 0.0, 0.25], [0.0, 0.0, 1.0, 0.0]]), k=3) == [
        [(1, 0.75), (3, 0.25)],
        [(2, 1.0)],
    ]


def test_top_tokens_break_ties_by_index_even_among_many():
    (slot,) = top_tokens(torch.full((1, 256), 1 / 256), k=100)
    assert [token for token, _ in slot] == list(range(100))


def test_top_tokens_may_ask_for_more_than_there_are():
    assert top_tokens(torch.tensor([[0.5, 0.5]]), k=10) == [[(0, 0.5), (1, 0.5)]]
