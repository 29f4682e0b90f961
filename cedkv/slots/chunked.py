"""Slots in closed form: token -> chunk -> slot. A slot is the mean of a chunk and counts as often as its tokens do.

A chunk is what stands at one place of the template in every demonstration. Nothing is trained and no query is needed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.lm import LanguageModel
from cedkv.lm.weighing import WeightDirections
from cedkv.state import DemoKV, DemoTokens, KVPrefix, Mixture, slot_layout

Chunk = tuple[int, ...]
Place = tuple

# A token that a field has in this share of the demonstrations belongs to the format and not to what they are about.
_COMMON = 0.5


def chunks_by_place(tokens: DemoTokens) -> list[Chunk]:
    """The tokens of each place of the template, over all demonstrations, in the order of the template.

    Token 0, the attention sink, is a chunk of its own. Each delimiter is a place. So is each token that a field (an
    input or an output) has in most demonstrations, such as a bracket or a comma. What varies between those is split
    into its first token, its last, and the rest; a single token is the last. Tokens of no demonstration are one chunk.
    """
    return in_template_order(tokens, places_of(tokens).values())


def places_of(tokens: DemoTokens) -> dict[Place, Chunk]:
    """The chunks of `chunks_by_place` by what tells their places apart; the last part of a name is `first`, `rest` or
    `last` in what varies of a field."""
    places: dict[Place, list[int]] = defaultdict(list)
    runs = list(runs_of(tokens))
    for kind in dict.fromkeys(kind for kind, _, _ in runs):
        alike = [run for other, _, run in runs if other == kind]
        common = _common_tokens(tokens, alike)
        for place, token in (found for run in alike for found in _places_in(tokens, run, kind, common)):
            if token != 0:
                places[place].append(token)
    placed = {0}.union(*places.values())
    if others := [token for token in range(len(tokens)) if token not in placed]:
        places["others",] = others
    return {("sink",): (0,), **{place: tuple(chunk) for place, chunk in places.items()}}


def in_template_order(tokens: DemoTokens, chunks: Iterable[Chunk]) -> list[Chunk]:
    """Chunks by where their tokens stand in a demonstration, in the mean; the sink's first."""
    place = {token: number + index / len(run) for _, number, run in runs_of(tokens) for index, token in enumerate(run)}
    return sorted(chunks, key=lambda chunk: (0 not in chunk, sum(place.get(token, 0) for token in chunk) / len(chunk)))


def runs_of(tokens: DemoTokens) -> Iterator[tuple[tuple[str, int], int, list[int]]]:
    """Neighbouring tokens of one role: the role and how many runs of it came before in the demonstration, how many runs
    of any came before, and the tokens."""
    for start, end in tokens.demo_spans():
        seen: Counter[str] = Counter()
        for role, run in groupby(range(start, end), key=tokens.roles.__getitem__):
            yield (role, seen[role]), seen.total(), list(run)
            seen[role] += 1


def _common_tokens(tokens: DemoTokens, runs: Sequence[Sequence[int]]) -> set[int]:
    """Ids that stand in most of these runs."""
    holding = Counter(id for run in runs for id in {tokens.ids[token] for token in run})
    return {id for id, count in holding.items() if count >= max(2, _COMMON * len(runs))}


def _places_in(
    tokens: DemoTokens, run: Sequence[int], kind: tuple[str, int], common: set[int]
) -> Iterator[tuple[tuple, int]]:
    """The place of every token of a run: its id and how often it came before, or where in a varying part it stands."""
    seen: Counter[int] = Counter()
    fixed = [kind[0] == "delimiter" or tokens.ids[token] in common for token in run]
    for index, token in enumerate(run):
        if fixed[index]:
            yield (kind, tokens.ids[token], seen[tokens.ids[token]]), token
            seen[tokens.ids[token]] += 1
        else:
            ends = index + 1 == len(run) or fixed[index + 1]
            begins = index == 0 or fixed[index - 1]
            where = "last" if ends else "first" if begins else "rest"
            yield (kind, seen.total(), where), token


def chunked_prefix(
    lm: LanguageModel,
    demo_kv: DemoKV,
    chunks: Sequence[Chunk],
    directions: WeightDirections,
    weight: float,
    positioning: str = "compact",
) -> KVPrefix:
    """One slot per chunk: the mean of its keys and values, with the log-bias `weight * log(tokens)`.

    weight : 1 counts every token of a chunk, 0 counts the chunk as one.
    """
    positions, query_start = slot_layout(len(chunks), len(demo_kv.tokens), positioning, demo_kv.keys.device)
    rows = chunk_weights(chunks, len(demo_kv.tokens)).to(demo_kv.keys.device)
    counted = rows.count_nonzero(dim=-1).float().log() * weight
    log_bias = counted * directions.usable[..., None].to(counted)
    shift = log_bias[..., None] * directions.at(lm, positions, query_start)
    return KVPrefix(
        keys=rows @ demo_kv.keys.float() + shift,
        values=rows @ demo_kv.values.float(),
        positions=positions,
        query_start=query_start,
        active=torch.ones(demo_kv.keys.shape[0], len(chunks), dtype=torch.bool, device=demo_kv.keys.device),
        fingerprint=demo_kv.fingerprint,
        mixture=Mixture(rows[None, None], demo_kv.tokens, log_bias=log_bias),
    )


def chunk_weights(chunks: Sequence[Chunk], tokens: int) -> Float[Tensor, "slots tokens"]:
    """The mixture of slots that are means of chunks."""
    weights = torch.zeros(len(chunks), tokens)
    for slot, chunk in enumerate(chunks):
        weights[slot, list(chunk)] = 1 / len(chunk)
    return weights
