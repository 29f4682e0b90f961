"""The relation state: what a demonstration block leaves behind, and the slots made from it.

Both are plain data. They know nothing of transformers; `cedkv.lm` rotates keys and injects them.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cedkv.errors import StateError
from cedkv.state.file import StateFields, read_state, write_state
from cedkv.state.mixture import DemoTokens, Mixture
from cedkv.state.precision import check_precision, decode, encode


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
        write_state(cast(StateFields, vars(self)), path, precision)

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
        return KVPrefix(**read_state(path, fingerprint))

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

    def with_tensors(
        self,
        keys: Float[Tensor, "layers kv_heads slots head_dim"],
        values: Float[Tensor, "layers kv_heads slots head_dim"],
    ) -> "KVPrefix":
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


def with_precision(prefix: KVPrefix, precision: str) -> KVPrefix:
    """The state as it comes back from a file of that precision. Integers come back as fp32.

    Raises
    ------
    StateError
        The precision is unknown, or the state's numbers do not fit into it.
    """
    check_precision(precision)
    layers, kv_heads, slots, head_dim = prefix.keys.shape
    shape = (layers, kv_heads, slots, head_dim)
    keys, values = (
        decode(name, encode(name, tensor, precision), shape, precision)
        for name, tensor in (("keys", prefix.keys), ("values", prefix.values))
    )
    return replace(prefix, keys=keys, values=values)
