"""The relation state: what a demonstration block leaves behind, and the slots made from it.

Both are plain data. They know nothing of transformers; `cedkv.lm` rotates keys and injects them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cedkv.errors import StateError

ROLES = ("input", "output", "delimiter")


@dataclass(frozen=True)
class DemoTokens:
    """The tokens of the demonstration block, each with its place in the demonstrations.

    Attributes
    ----------
    ids : token ids in prompt order; a leading beginning-of-text token, where the model wants one, included.
    texts : the literal text of each token.
    roles : per token one of `input`, `output`, `delimiter` (the seeds' *atom type*).
    demo : per token the index of its demonstration, -1 in front of the first: a beginning-of-text token, a chat's
        system turn.
    """

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    roles: tuple[str, ...]
    demo: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)

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
    may be a multiple, `value_gain`, of the mixture.
    """

    weights: Float[Tensor, "scope_layers scope_heads slots tokens"]
    tokens: DemoTokens
    key_weights: Float[Tensor, "scope_layers scope_heads slots tokens"] | None = None
    log_bias: Float[Tensor, "layers kv_heads slots"] | None = None
    value_gain: Float[Tensor, "layers kv_heads slots"] | None = None

    def padded(self, missing: int) -> "Mixture":
        """The mixture with `missing` null slots appended: rows of zeros."""
        rows, numbers = (0, 0, 0, missing), (0, missing)
        paddings = {"weights": rows, "key_weights": rows, "log_bias": numbers, "value_gain": numbers}
        present = {name: tensor for name in paddings if (tensor := getattr(self, name)) is not None}
        return replace(
            self, **{name: torch.nn.functional.pad(tensor, paddings[name]) for name, tensor in present.items()}
        )


@dataclass(frozen=True)
class KVPrefix:
    """`S` key/value slots that stand in for a prompt: the relation state `s_e`.

    Attributes
    ----------
    keys, values : keys are stored before rotary embedding, so slots can be mixed, moved and reused.
    positions : rotary position of each slot.
    query_start : position of the first token of whatever follows the prefix.
    active : slots that are switched off in a layer are masked there, not zeroed: an all-zero key still takes
        attention. Null padding and injection layer scopes are rows and entries of this table.
    fingerprint : of the model the state was made with.
    mixture : where the slots come from; None for unconstrained slots.
    """

    keys: Float[Tensor, "layers kv_heads slots head_dim"]
    values: Float[Tensor, "layers kv_heads slots head_dim"]
    positions: Int[Tensor, " slots"]
    query_start: int
    active: Bool[Tensor, "layers slots"]
    fingerprint: str
    mixture: Mixture | None = None
    meta: dict = field(default_factory=dict)

    def save(self, path: str | Path, precision: str | None = None) -> None:
        """Write the state to a file, in the precision it has or in another one; see `cedkv.state.file`."""
        from cedkv.state.file import save_prefix

        save_prefix(self, path, precision)

    @staticmethod
    def load(path: str | Path, fingerprint: str | None = None) -> "KVPrefix":
        """Read a state from a file, every byte of it verified; keys and values on the CPU, `int8` and `int4` as fp32.

        Parameters
        ----------
        fingerprint : of the model it is meant for, whose absence lets any state be looked at. What puts a state into
            a model checks it again.

        Raises
        ------
        StateError
            The file is missing, damaged, altered, of another format version, or made with another model.
        """
        from cedkv.state.file import load_prefix

        return load_prefix(path, fingerprint)

    def check_model(self, fingerprint: str) -> None:
        """Refuse a model other than the state's own: its shape may fit, but its answers would mean nothing.

        Raises
        ------
        StateError
            The state was made with another model.
        """
        if self.fingerprint != fingerprint:
            raise StateError(
                f"the state was made with a model of fingerprint {self.fingerprint}, the model's is {fingerprint}; "
                "load the model it was made for"
            )

    @property
    def slots(self) -> int:
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values as injected."""
        return self.keys.nbytes + self.values.nbytes

    def with_tensors(self, keys: Tensor, values: Tensor) -> "KVPrefix":
        return replace(self, keys=keys, values=values)

    def with_active(self, active: Bool[Tensor, "layers slots"]) -> "KVPrefix":
        return replace(self, active=active)

    def without(self, slots: list[int]) -> "KVPrefix":
        """The prefix with the named slots switched off in every layer; the other slots keep their positions."""
        active = self.active.clone()
        active[:, slots] = False
        return self.with_active(active)

    def with_injection_layers(self, layers: list[int]) -> "KVPrefix":
        """The prefix visible in the named layers only."""
        allowed = torch.zeros(self.active.shape[0], 1, dtype=torch.bool, device=self.active.device)
        allowed[layers] = True
        return self.with_active(self.active & allowed)

    def scaled(self, slot: int, factor: float) -> "KVPrefix":
        """The prefix with one slot's values multiplied by `factor`."""
        values = self.values.clone()
        values[:, :, slot] *= factor
        return replace(self, values=values)


@dataclass(frozen=True)
class DemoKV:
    """Keys (pre-RoPE) and values of every demonstration token, from one forward of the demonstration block."""

    keys: Float[Tensor, "layers kv_heads tokens head_dim"]
    values: Float[Tensor, "layers kv_heads tokens head_dim"]
    tokens: DemoTokens
    fingerprint: str

    def as_prefix(self) -> KVPrefix:
        """The whole block as a prefix: the teacher's cache. Every slot is one token, at its own position."""
        layers, count = self.keys.shape[0], self.keys.shape[2]
        identity = torch.eye(count, device=self.keys.device)[None, None]
        return KVPrefix(
            keys=self.keys,
            values=self.values,
            positions=torch.arange(count, device=self.keys.device),
            query_start=count,
            active=torch.ones(layers, count, dtype=torch.bool, device=self.keys.device),
            fingerprint=self.fingerprint,
            mixture=Mixture(identity, self.tokens),
        )


def slot_layout(
    slots: int, tokens: int, positioning: str, device: torch.device | str = "cpu"
) -> tuple[Int[Tensor, " slots"], int]:
    """Positions of the slots and of the query's first token.

    `compact` puts the slots at 0..S-1 and the query after them; `absolute` puts the slots at the end of the
    demonstrations' span and the query where the teacher's would start.
    """
    start = 0 if positioning == "compact" else max(tokens - slots, 0)
    return torch.arange(start, start + slots, device=device), start + slots


def pad_with_null_slots(prefix: KVPrefix, prefix_len: int) -> KVPrefix:
    """Append slots that are masked in every layer until the prefix has `prefix_len`: true no-ops.

    The query stays where it is, so a padded prefix answers exactly like the prefix itself.
    """
    missing = prefix_len - prefix.slots
    if missing <= 0:
        return prefix
    layers, kv_heads, _, head_dim = prefix.keys.shape
    null = prefix.keys.new_zeros(layers, kv_heads, missing, head_dim)
    # Masked in every layer, so their position is never used; the last slot's keeps it within the prefix.
    extra = prefix.positions.new_full((missing,), max(prefix.query_start - 1, 0))
    mixture = prefix.mixture and prefix.mixture.padded(missing)
    return replace(
        prefix,
        keys=torch.cat([prefix.keys, null], dim=2),
        values=torch.cat([prefix.values, null], dim=2),
        positions=torch.cat([prefix.positions, extra]),
        active=torch.nn.functional.pad(prefix.active, (0, missing), value=False),
        mixture=mixture,
    )
