"""Where tokens stand in a template, in words that every template shares, and what an extractor reads of each place."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.slots.chunked import Chunk, chunk_weights, places_of, runs_of
from cedkv.state import DemoKV, DemoTokens

# What a token can be, whatever the template: which delimiter by what it stands between, which part of a field.
_DELIMITERS = tuple(f"{run} {part}" for run in ("before", "between", "after") for part in ("first", "rest", "last"))
_FIELDS = tuple(f"{field} {part}" for field in ("input", "output") for part in ("fixed", "first", "rest", "last"))
KINDS = ("sink", *_DELIMITERS, *_FIELDS, "other")
# Numbers of a place besides its kinds, keys and values; see `read_places`.
SCALARS = 6


@dataclass(frozen=True)
class Places:
    """What an extractor reads of a block and of the slots that are to be made of it.

    kinds : share of each of `KINDS` among a place's tokens.
    vectors : mean key (pre-RoPE) and mean value of each place, as multiples of their usual size in a layer and head.
    shares : of each place among a slot's tokens.
    member : 1 where a token belongs to a place.
    """

    kinds: Float[Tensor, "places kinds"]
    scalars: Float[Tensor, "places scalars"]
    vectors: Float[Tensor, "layers kv_heads places both_dims"]
    shares: Float[Tensor, "slots places"]
    member: Float[Tensor, "places tokens"]


def token_kinds(tokens: DemoTokens) -> list[str]:
    """One of `KINDS` for every token. A delimiter that is a run of its own is the last of it."""
    kinds = ["other"] * len(tokens)
    for place, chunk in places_of(tokens).items():
        for token in chunk if isinstance(place[0], tuple) else ():
            part = place[-1] if isinstance(place[-1], str) else "fixed"
            kinds[token] = f"{place[0][0]} {part}"
    run_name = "before"
    for (role, _), number, run in runs_of(tokens):
        run_name = "before" if number == 0 else run_name
        if role == "delimiter":
            for index, token in enumerate(run):
                part = "last" if index + 1 == len(run) else "first" if index == 0 else "rest"
                kinds[token] = f"{run_name} {part}"
        run_name = {"input": "between", "output": "after"}.get(role, run_name)
    kinds[0] = "sink"
    return [kind if kind in KINDS else "other" for kind in kinds]


def read_places(demo_kv: DemoKV, places: Sequence[Chunk], slots: Sequence[Chunk]) -> Places:
    """What an extractor is given. It depends on places as sets: the order of demonstrations has no part in it.

    places : the chunks before any was merged or split. slots : the chunk of each slot.
    """
    tokens, device = demo_kv.tokens, demo_kv.keys.device
    counts = torch.tensor([float(len(place)) for place in places])
    means = chunk_weights(places, len(tokens))
    kinds = torch.eye(len(KINDS))[[KINDS.index(kind) for kind in token_kinds(tokens)]]
    member, of_slot = (means > 0).float(), (chunk_weights(slots, len(tokens)) > 0).float()
    shares = of_slot @ member.mT / of_slot.sum(-1, keepdim=True)
    # How many tokens stand beside each of a place's own in its slot, in the mean over them.
    crowd = (member @ (of_slot.sum(-1)[:, None] * of_slot).sum(0)) / counts
    demos = max(len(tokens.demo_spans()), 1)
    vectors, spread = _vectors(demo_kv, means.to(device))
    scalars = [
        counts.log(),
        (counts / demos).log(),
        torch.full_like(counts, float(demos)).log(),
        (crowd / counts).log(),
        torch.full_like(counts, len(slots) / len(places)).log(),
        spread.cpu(),
    ]
    return Places(
        (means @ kinds).to(device),
        torch.stack(scalars, dim=-1).to(device),
        vectors,
        shares.to(device),
        member.to(device),
    )


def _vectors(
    demo_kv: DemoKV, means: Float[Tensor, "places tokens"]
) -> tuple[Float[Tensor, "layers kv_heads places both_dims"], Float[Tensor, " places"]]:
    """Means of keys and values, and how much the keys of a place differ, both in units of their usual size."""
    scaled = [
        vectors.float() / vectors.float().square().mean(dim=(2, 3), keepdim=True).sqrt().clamp_min(1e-6)
        for vectors in (demo_kv.keys, demo_kv.values)
    ]
    both = [means @ vectors for vectors in scaled]
    squares = means @ scaled[0].square().mean(-1, keepdim=True)
    spread = squares[..., 0] - both[0].square().mean(-1)
    return torch.cat(both, dim=-1), spread.mean(dim=(0, 1))
