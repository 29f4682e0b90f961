"""What a slot is made of, in words: `mean of the ten "->", counts as 7.1 tokens`."""

import json
from collections import Counter

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.state.prefix import KVPrefix, Mixture

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
# Different texts that are all named; of more the roles are.
_NAMED = 3
# What a file's precision may make a weight of a mean miss.
_ROUNDING = 1e-4


def slot_words(prefix: KVPrefix, slot: int) -> str:
    """A slot in words: the tokens it is the mean of, and as how many it counts in the mean over layers and heads.

    Empty for a null slot and for slots that are made of no tokens.
    """
    mixture = prefix.mixture
    if mixture is None or not mixture.weights[:, :, slot].any():
        return ""
    made = _chunk_words(mixture, slot)
    if mixture.log_bias is None:
        return made
    counts = _typical(mixture.log_bias, slot)
    said = f"{made}, counts as {counts:.1f} token{'' if f'{counts:.1f}' == '1.0' else 's'}"
    if mixture.selective is None:
        return said
    return f"{said}, for the relation's queries {_typical(mixture.selective, slot):.1f} times that"


def _typical(log_bias: Float[Tensor, "layers kv_heads slots"], slot: int) -> float:
    return log_bias[:, :, slot].float().mean().exp().item()


def _chunk_words(mixture: Mixture, slot: int) -> str:
    rows = mixture.weights[:, :, slot].flatten(0, 1).float()
    tokens = rows[0].nonzero()[:, 0].tolist()
    mean = (rows[0] > 0) / len(tokens)
    if not torch.allclose(rows, mean.expand_as(rows), atol=_ROUNDING):
        return f"mixture of {int(rows.any(0).sum())} tokens"
    named = Counter(mixture.tokens.texts[token] for token in tokens)
    if len(tokens) == 1:
        demo = mixture.tokens.demo[tokens[0]]
        return f"{_quoted(*named)} of " + (f"demonstration {demo + 1}" if demo >= 0 else "the start of text")
    if len(named) > _NAMED:
        roles = Counter(mixture.tokens.roles[token] for token in tokens)
        return "mean of " + " and ".join(f"{_number(count)} {role} tokens" for role, count in roles.items())
    return "mean of " + " and ".join(f"the {_number(count)} {_quoted(text)}" for text, count in named.items())


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
