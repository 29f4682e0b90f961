"""What slots are made of: the demonstrations' tokens, and how much of each is in a slot."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Those of demonstrations; other kinds of block have roles of their own besides.
ROLES = ("input", "output", "delimiter")
# What a mixture holds as one number per layer, key/value head and slot.
PER_SLOT = ("log_bias", "value_gain", "selective", "value_turn")


@dataclass(frozen=True)
class DemoTokens:
    """The tokens of the demonstration block, each with its place in the demonstrations.

    Attributes
    ----------
    ids : token ids in prompt order; a leading beginning-of-text token, where the model wants one, included.
    texts : the literal text of each token.
    roles : per token one of `ROLES` (the seeds' *atom type*), or a role of the block's own kind, a plain word.
    demo : per token the index of its demonstration, -1 in front of the first: a beginning-of-text token, a chat's
        system turn.
    """

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    roles: tuple[str, ...]
    demo: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def role_names(self) -> tuple[str, ...]:
        """The roles there may be: those of demonstrations, then the block's own as they come."""
        return tuple(dict.fromkeys((*ROLES, *self.roles)))

    def take(self, indices: Iterable[int]) -> "DemoTokens":
        """The tokens at `indices`, in that order."""
        chosen = list(indices)
        return DemoTokens(
            ids=tuple(self.ids[i] for i in chosen),
            texts=tuple(self.texts[i] for i in chosen),
            roles=tuple(self.roles[i] for i in chosen),
            demo=tuple(self.demo[i] for i in chosen),
        )

    def lead(self) -> "DemoTokens":
        """The tokens in front of the first demonstration, which stand in front of a query alone too."""
        return self.take(index for index, demo in enumerate(self.demo) if demo < 0)

    def demo_spans(self) -> list[tuple[int, int]]:
        """Start and end (exclusive) of every demonstration, in order."""
        spans: dict[int, tuple[int, int]] = {}
        for index, demo in enumerate(self.demo):
            if demo >= 0:
                start, _ = spans.get(demo, (index, index))
                spans[demo] = (start, index + 1)
        return [spans[demo] for demo in sorted(spans)]

    def longest(self, role: str) -> int:
        """The most tokens of a role that a demonstration has."""
        return max((self.roles[start:end].count(role) for start, end in self.demo_spans()), default=0)


@dataclass(frozen=True)
class Mixture:
    """Which demonstration tokens each slot is made of.

    `weights` rows lie on the simplex: non-negative, summing to one over tokens (all zero for a null slot). They are
    those of the values, and of the keys too unless `key_weights` are given, as for keys that stay at anchors. One
    layer means that every layer shares the rows, one head that every key/value head of a layer does.

    A slot may count as more or less than one token: its keys then hold its `log_bias` times the model's weight
    direction (`cedkv.lm.weighing`) beside the mixture, so that every query feels it `exp(log_bias)` times. Its values
    may be a multiple, `value_gain`, of the mixture. `selective` is a log-bias that only the relation's queries feel
    (`cedkv.lm.selective`), `value_turn` how large what a learnt map adds to a value is, as a share of the mixture.
    """

    weights: Float[Tensor, "scope_layers scope_heads slots tokens"]
    tokens: DemoTokens
    key_weights: Float[Tensor, "key_layers key_heads slots tokens"] | None = None
    log_bias: Float[Tensor, "layers kv_heads slots"] | None = None
    value_gain: Float[Tensor, "layers kv_heads slots"] | None = None
    selective: Float[Tensor, "layers kv_heads slots"] | None = None
    value_turn: Float[Tensor, "layers kv_heads slots"] | None = None

    def padded(self, missing: int) -> "Mixture":
        """The mixture with `missing` null slots appended: rows of zeros."""
        rows: tuple[int, ...] = (0, 0, 0, missing)
        paddings = {"weights": rows, "key_weights": rows, **dict.fromkeys(PER_SLOT, (0, missing))}
        padded: dict[str, Any] = {
            name: torch.nn.functional.pad(tensor, padding)
            for name, padding in paddings.items()
            if (tensor := getattr(self, name)) is not None
        }
        return replace(self, **padded)
