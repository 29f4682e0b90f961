"""What the engine reads of a cache of transformers, whose own types leave open whether a layer keeps keys at all."""

from typing import Protocol, cast

from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache


class CacheLayer(Protocol):
    """A layer that has read something: its rotated keys and its values."""

    keys: Float[Tensor, "batch kv_heads tokens head_dim"]
    values: Float[Tensor, "batch kv_heads tokens head_dim"]

    def get_seq_length(self) -> int: ...

    def batch_repeat_interleave(self, repeats: int) -> None: ...


def layers_of(cache: DynamicCache) -> list[CacheLayer]:
    """The layers of a cache that was filled by attention, as the engine's models all do."""
    return cast(list[CacheLayer], cache.layers)
