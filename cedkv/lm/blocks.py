"""Documents of several lengths that end together, read once and put in front of a batch as often as it is wanted."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DynamicCache

from cedkv.lm.cache import layers_of
from cedkv.lm.gists import GistReader

# A document's rotated keys and its values in every layer that was run.
Block = Float[Tensor, "layers both kv_heads _ head_dim"]


@torch.no_grad()
def read_blocks(
    reader: GistReader, documents: Sequence[Sequence[int]], end: int, mask: Float[Tensor, "documents 1 tokens tokens"]
) -> list[Block]:
    """What the frozen model makes of documents that all end in front of position `end`, in one pass.

    mask : of the documents, filled up on the left to the longest.
    """
    width, device = mask.shape[-1], reader.lm.device
    rows = [[*[0] * (width - len(document)), *document] for document in documents]
    positions = torch.arange(end - width, end, device=device).expand(len(rows), -1)
    _, cache = reader.run(torch.tensor(rows, device=device), positions, mask.to(device), reads=0, adapter=False)
    read = torch.stack([torch.stack([layer.keys, layer.values], dim=1) for layer in layers_of(cache)], dim=1)
    return [of_one[..., width - len(document) :, :].clone() for of_one, document in zip(read, documents, strict=True)]


def cache_of_blocks(blocks: Sequence[Block], width: int) -> DynamicCache:
    """A batch's cache of documents that end together, filled up on the left to `width` tokens."""
    filled = torch.stack([nn.functional.pad(block, (0, 0, width - block.shape[-2], 0)) for block in blocks])
    return DynamicCache(ddp_cache_data=[(layer[:, 0], layer[:, 1]) for layer in filled.unbind(dim=1)])
