"""Documents of several lengths that end together, read once and put in front of a batch as often as it is wanted."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DynamicCache

from cedkv.lm.cache import layers_of
from cedkv.lm.gists import GistReader

# A document's keys and values, layer by layer; those of two documents differ in length.
Block = Sequence[tuple[Float[Tensor, "kv_heads _ head_dim"], Float[Tensor, "kv_heads _ head_dim"]]]


@torch.no_grad()
def read_block(reader: GistReader, ids: Sequence[int], start: int, mask: Float[Tensor, "1 1 tokens tokens"]) -> Block:
    """What the frozen model makes of a document whose first token stands at position `start`: per layer that is run,
    its rotated keys and its values."""
    tokens = torch.tensor([list(ids)], device=reader.lm.device)
    positions = torch.arange(start, start + len(ids), device=tokens.device)[None]
    _, cache = reader.run(tokens, positions, mask.to(tokens.device), adapter=False)
    return [(layer.keys[0], layer.values[0]) for layer in layers_of(cache)]


def cache_of_blocks(blocks: Sequence[Block], width: int) -> DynamicCache:
    """A batch's cache of documents that end together, filled up on the left to `width` tokens."""

    def filled(tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack([nn.functional.pad(tensor, (0, 0, width - tensor.shape[1], 0)) for tensor in tensors])

    layers = zip(*blocks, strict=True)
    return DynamicCache(
        ddp_cache_data=[(filled([keys for keys, _ in same]), filled([values for _, values in same])) for same in layers]
    )
