"""Greedy or sampled continuation of many queries at once, behind any prefix."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cedkv.lm.forward import PackedCache, TokenIds, View, extend, open_view, pack, pack_slices, part_of
from cedkv.lm.load import LanguageModel
from cedkv.state import KVPrefix


@dataclass
class ReadQueries:
    """One pack of queries that a model has read: what it expects after each, and the cache to go on from.

    logits : of the token after each query, in the model's dtype.
    next_position : where that token would stand.
    """

    cache: PackedCache
    logits: Float[Tensor, "queries vocab"]
    next_position: Int[Tensor, " queries"]


@torch.no_grad()
def read_queries(lm: LanguageModel, queries: Sequence[TokenIds], view: View) -> ReadQueries:
    """Run queries behind a prefix, alone, or each behind its own. The prefixes are copied: they never change."""
    cache = open_view(lm, view)
    ids, segment, position, last = pack(lm, queries, view)
    return ReadQueries(cache, extend(lm, cache, ids, segment, position, last), position[last] + 1)


@torch.no_grad()
def read_behind_each(lm: LanguageModel, query: TokenIds, prefixes: Sequence[KVPrefix | None]) -> ReadQueries:
    """Run one query behind each of several prefixes (None: alone) in one pack. The prefixes never change."""
    return read_queries(lm, [query] * len(prefixes), list(prefixes))


@torch.no_grad()
def stream_tokens(
    lm: LanguageModel,
    read: ReadQueries,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    stop: str | None = None,
) -> Iterator[list[list[int]]]:
    """Continue queries, yielding what each has generated so far after every token. It uses up their cache.

    A query ends at an end-of-text token, at the token that completes `stop`, or at `max_new_tokens`. Temperature 0 is
    greedy.
    """
    # A token has a byte at least, so the last ones hold a stop that the newest completes.
    tail = len(stop.encode()) if stop else 0
    logits, next_position = read.logits, read.next_position
    live = torch.arange(len(logits), device=lm.device)
    generated: list[list[int]] = [[] for _ in live]
    generator = torch.Generator(device=lm.device).manual_seed(seed)
    for left in reversed(range(max_new_tokens)):
        tokens = _choose(logits, temperature, generator)
        going = []
        for row, token in enumerate(tokens.tolist()):
            ended = token in lm.stop_ids
            if not ended:
                generated[live[row]].append(token)
                ended = stop is not None and stop in lm.decode(generated[live[row]][-tail:])
            going.append(not ended)
        yield generated
        if not left or not any(going):
            return
        keep = torch.tensor(going, device=lm.device)
        live, next_position = live[keep], next_position[keep]
        every = torch.arange(len(live), device=lm.device)
        logits = extend(lm, read.cache, tokens[keep], live, next_position, every)
        next_position = next_position + 1


def generate(
    lm: LanguageModel,
    queries: Sequence[TokenIds],
    view: View = None,
    max_new_tokens: int = 16,
    temperature: float = 0.0,
    seed: int = 0,
    stop: str | None = None,
) -> list[str]:
    """The text that follows each query, behind one prefix, alone, or behind its own.

    `stop` and what comes after it are cut off.
    """
    texts, pack_seeds = [], random.Random(seed)  # one seed for all packs would make them repeat each other's draws
    for part in pack_slices(queries):
        pack_seed = pack_seeds.getrandbits(63)
        read = read_queries(lm, queries[part], part_of(view, part))
        *_, ids = stream_tokens(lm, read, max_new_tokens, temperature, pack_seed, stop)
        texts += [lm.decode(row) for row in ids]
    return [text.split(stop)[0] for text in texts] if stop else texts


def _choose(
    logits: Float[Tensor, "live vocab"], temperature: float, generator: torch.Generator
) -> Int[Tensor, " live"]:
    if temperature == 0:
        return logits.argmax(dim=-1)
    return torch.multinomial((logits.float() / temperature).softmax(dim=-1), 1, generator=generator)[:, 0]
