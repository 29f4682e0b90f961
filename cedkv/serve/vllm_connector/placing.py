"""Where a state's keys and values go: turned to their places in vLLM's prompt, cut to a rank's heads, in its blocks."""

from collections.abc import Callable, Sequence

import torch

from .errors import Refused
from .state import State

# Turns keys `[layers, kv_heads, slots, head_dim]` to positions `[slots]`, which may be below zero.
Turn = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def placed_keys(state: State, turn: Turn) -> torch.Tensor:
    """Keys as tokens of a prompt have them whose query starts right behind the slots.

    vLLM has the query's first token at `slots`, the state has it at zero; only distances count.
    """
    return turn(state.keys.float(), state.positions + state.slots)


def turn_by(cache: torch.Tensor, halves: bool) -> Turn:
    """A turn with cosines and sines as vLLM's rotary modules keep them.

    Parameters
    ----------
    cache : `[positions, head_dim]`, cosines in the first half, sines in the second.
    halves : each key is turned as two halves, not as neighbours.
    """

    def turn(keys: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        if positions.abs().max() >= len(cache):  # a file says where its slots lie, and anyone may write one
            raise Refused(f"its slots lie further from the query than the {len(cache)} positions that the model knows")
        cos, sin = cache.float()[positions.abs()].chunk(2, dim=-1)
        sin = sin * positions.sign()[:, None]
        if halves:
            first, second = keys.chunk(2, dim=-1)
        else:
            first, second = keys[..., ::2], keys[..., 1::2]
        turned = (first * cos - second * sin, second * cos + first * sin)
        return torch.cat(turned, dim=-1) if halves else torch.stack(turned, dim=-1).flatten(-2)

    return turn


def own_heads(kv_heads: int, rank: int, ranks: int) -> slice:
    """The key/value heads of one tensor-parallel rank: one at least, which ranks share where there are fewer heads."""
    count = max(kv_heads // ranks, 1)
    start = rank * count if kv_heads >= ranks else rank // (ranks // kv_heads)
    return slice(start, start + count)


def cache_places(blocks: Sequence[int], first: int, last: int, block_size: int) -> torch.Tensor:
    """Where tokens `first` to before `last` of a prompt lie in the paged cache."""
    tokens = torch.arange(first, last)
    return torch.tensor(blocks)[tokens // block_size] * block_size + tokens % block_size
