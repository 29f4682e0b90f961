"""Reading a mixture back: which demonstration tokens, and which roles, a slot is made of."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor


def role_mass(
    weights: Float[Tensor, "*rows tokens"],
    roles: Sequence[str],
    names: Sequence[str] = ("input", "output", "delimiter"),
) -> Float[Tensor, "*rows roles"]:
    """How much of each slot's weight lies on tokens of each role; sums to the slot's whole weight.

    Parameters
    ----------
    weights
        Mixture weights, rows on the simplex.
    roles
        The role of each token.
    names
        The roles in the order of the last axis of the result.

    Raises
    ------
    ValueError
        If a token's role is not among ``names``: its mass would be lost.
    """
    for token, role in enumerate(roles):
        if role not in names:
            raise ValueError(f"token {token} has the role {role!r}, known are {', '.join(names)}")
    membership = weights.new_tensor([[float(role == name) for name in names] for role in roles])
    return weights @ membership


def top_tokens(weights: Float[Tensor, "slots tokens"], k: int) -> list[list[tuple[int, float]]]:
    """The at most ``k`` heaviest tokens of each slot as (token index, weight), heaviest first, ties by index.

    Tokens of weight zero are left out, so a sparse slot may list fewer than ``k``.
    """
    ranked, tokens = weights.sort(dim=-1, descending=True, stable=True)
    return [
        [(token, weight) for token, weight in zip(row, heaviest, strict=True) if weight != 0]
        for row, heaviest in zip(tokens[:, :k].tolist(), ranked[:, :k].tolist(), strict=True)
    ]
