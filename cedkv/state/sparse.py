"""How mixtures are stored: the few tokens of each slot that have weight, not all of them."""

from jaxtyping import Float, Int
from torch import Tensor


def to_sparse(
    weights: Float[Tensor, "*rows tokens"],
) -> tuple[Int[Tensor, "*rows kept"], Float[Tensor, "*rows kept"]]:
    """Indices (ascending) and weights (fp32) of the tokens of each row, as many as the fullest row needs.

    A row with fewer tokens is filled up with the first tokens that have no weight.
    """
    kept = int((weights != 0).sum(-1).max()) if weights.numel() else 0
    # Stable, so that of the tokens without weight the first ones are taken.
    heaviest = weights.float().sort(dim=-1, descending=True, stable=True).indices[..., :kept]
    indices = heaviest.sort(dim=-1).values
    return indices.int(), weights.float().gather(-1, indices)


def to_dense(
    indices: Int[Tensor, "*rows kept"], weights: Float[Tensor, "*rows kept"], tokens: int
) -> Float[Tensor, "*rows tokens"]:
    """What `to_sparse` was given."""
    return weights.new_zeros(*weights.shape[:-1], tokens).scatter(-1, indices.long(), weights)
