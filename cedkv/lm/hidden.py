"""The states that the unembedding reads, of whole texts."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.lm.forward import TokenIds, pack_slices, packed_logits
from cedkv.lm.load import LanguageModel


@torch.no_grad()
def hidden_states(lm: LanguageModel, queries: Sequence[TokenIds]) -> list[Float[Tensor, "_tokens hidden"]]:
    """The last hidden state (fp32) after every token of each query, a beginning-of-text token's first."""
    caught: list[Tensor] = []
    hook = lm.model.get_decoder().register_forward_hook(lambda _m, _i, out: caught.append(out.last_hidden_state[0]))
    states: list[Tensor] = []
    try:
        for part in pack_slices(queries):
            packed_logits(lm, queries[part], None)
            states += caught.pop().float().split([len(lm.bos) + len(query) for query in queries[part]])
    finally:
        hook.remove()
    return states
