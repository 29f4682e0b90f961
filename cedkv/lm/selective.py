"""A slot's selective weight: what queries of a relation feel in its key and other texts do not.

A weight direction (`cedkv.lm.weighing`) is felt by every query alike. The same regression with two wishes, 1 on the
last tokens of the relation's queries and 0 on those of other texts, gives a vector that tells them apart, one for each
layer and key/value head of an episode.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.lm.forward import TokenIds
from cedkv.lm.load import LanguageModel
from cedkv.lm.observe import read_attention
from cedkv.lm.rope import unrotate_keys
from cedkv.state import KVPrefix

# Tokens at the end of each text that are told apart: they lead to what follows it.
_TAIL = 3
# Pulls the solution towards small numbers, as a share of the queries' mean square: an episode has few of them.
_RIDGE = 1e-2


def selective_directions(
    lm: LanguageModel, prefix: KVPrefix, on: Sequence[TokenIds], off: Sequence[TokenIds]
) -> Float[Tensor, "layers kv_heads slots head_dim"]:
    """What to add to the pre-RoPE keys of a prefix's slots: ON queries' last tokens score it 1, OFF texts' 0.

    Both sides weigh one half, however many texts there are of either.
    """
    apart = [_rows(lm, texts, prefix) for texts in (on, off)]
    squares = sum((rows.mT @ rows / rows.shape[2] / 2 for rows in apart), torch.zeros(()))
    wish = apart[0].mean(2) / 2
    size = squares.diagonal(dim1=-2, dim2=-1).mean(-1)
    ridge = _RIDGE * size[..., None, None] * torch.eye(squares.shape[-1], dtype=squares.dtype, device=squares.device)
    felt = torch.linalg.solve(squares + ridge, wish[..., None])[..., 0].float()
    felt = felt.to(lm.device)
    return unrotate_keys(lm.model, felt[:, :, None].expand(-1, -1, prefix.slots, -1), prefix.positions)


def _rows(
    lm: LanguageModel, texts: Sequence[TokenIds], prefix: KVPrefix
) -> Float[Tensor, "layers kv_heads rows head_dim"]:
    """Scaled and rotated queries of the texts' last tokens, heads of one key/value head together."""
    reading = read_attention(lm, texts, prefix, tail=_TAIL)
    rows = reading.query.unflatten(1, (lm.kv_heads, -1)).flatten(2, 3)
    return rows.cpu().double() * reading.scaling  # on the CPU, as MPS has no float64
