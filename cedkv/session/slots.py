"""What a slot is made of, as plain lists for drawing; and the same state with a slot changed."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.errors import CedKVError
from cedkv.metrics import attribution_overlap, slot_cosine
from cedkv.session.views import SlotMap
from cedkv.state import KVPrefix, Mixture
from cedkv.state.mixture import PER_SLOT


def slot_map(prefix: KVPrefix, layer: int | None = None, head: int | None = None) -> SlotMap:
    """The mixture behind a state; `layer` None is the mean over layers, `head` None over KV heads.

    Raises
    ------
    CedKVError
        The slots are free: no token is behind them.
    """
    mixture = prefix.mixture
    if mixture is None:
        raise CedKVError("these slots are free vectors; no demonstration token is behind them")
    layers, heads = mixture.weights.shape[:2]
    weights = _at(mixture.weights, layer, head).tolist()
    counts = None if mixture.log_bias is None else _at(mixture.log_bias, layer, head).exp().tolist()
    active = prefix.active.any(0) if layer is None else prefix.active[min(layer, prefix.active.shape[0] - 1)]
    tokens = mixture.tokens
    return SlotMap(tokens.texts, tokens.roles, tokens.demo, weights, active.tolist(), layers, heads, counts)


def _at(values: Float[Tensor, "layers kv_heads *rest"], layer: int | None, head: int | None) -> Float[Tensor, "*rest"]:
    """What a layer and KV head have, or the mean of them; what all of them share is everyone's."""
    values = values.float()
    values = values.mean(0) if layer is None else values[min(layer, len(values) - 1)]
    return values.mean(0) if head is None else values[min(head, len(values) - 1)]


def similarity(prefix: KVPrefix) -> dict[str, list[list[float]]]:
    """Slot-to-slot matrices: cosine of keys and of values, and the overlap of attributions where there are any."""
    found = {"keys": slot_cosine(prefix.keys).tolist(), "values": slot_cosine(prefix.values).tolist()}
    if prefix.mixture is not None:
        found["attribution"] = attribution_overlap(prefix.mixture.weights).tolist()
    return found


_LOUDEST = 10.0


@dataclass(frozen=True)
class SlotChange:
    """What to do with one slot (from 0): multiply its values, 0 switching it off; or take it from another run.

    method : the state whose slot it is; empty for the run's student.
    """

    slot: int
    factor: float = 0.0
    from_run: str = ""
    from_slot: int = 0
    method: str = ""

    def apply(self, prefix: KVPrefix, other: KVPrefix | None) -> KVPrefix:
        """The state with one slot changed.

        Raises
        ------
        CedKVError
            There is no such slot.
        """
        for state, slot in ((prefix, self.slot), (other, self.from_slot)):
            if state is not None and not 0 <= slot < state.slots:
                raise CedKVError(f"slot {slot + 1} does not exist; the state has slots 1 to {state.slots}")
        if other is not None:
            return with_slot_of(prefix, self.slot, other, self.from_slot)
        return _scaled(prefix, self.slot, self.factor)


@dataclass(frozen=True)
class Mix:
    """What to multiply every slot's values by; 0 switches a slot off.

    method : the state that is mixed; empty for the run's student.
    """

    factors: tuple[float, ...]
    method: str = ""
    from_run: str = ""

    def told(self) -> str:
        """What is not as it was, in words."""
        changed = [
            f"slot {slot} × {factor:g}" if factor else f"slot {slot} off"
            for slot, factor in enumerate(self.factors, start=1)
            if factor != 1
        ]
        return ", ".join(changed) or "as it is"

    def apply(self, prefix: KVPrefix, other: KVPrefix | None = None) -> KVPrefix:
        """The state with its slots mixed.

        Raises
        ------
        CedKVError
            There is not one usable factor for each slot.
        """
        if len(self.factors) != prefix.slots or not all(0 <= factor <= _LOUDEST for factor in self.factors):
            raise CedKVError(
                f"{len(self.factors)} factors for {prefix.slots} slots; give each slot one from 0 to {_LOUDEST:g}"
            )
        for slot, factor in enumerate(self.factors):
            prefix = prefix if factor == 1 else _scaled(prefix, slot, factor)
        return prefix


def _scaled(prefix: KVPrefix, slot: int, factor: float) -> KVPrefix:
    return prefix.scaled(slot, factor) if factor else prefix.without([slot])


def with_slot_of(prefix: KVPrefix, slot: int, other: KVPrefix, other_slot: int) -> KVPrefix:
    """The state with one slot taken from another state of the same model; positions stay.

    Raises
    ------
    CedKVError
        The states were made with different models.
    """
    if other.fingerprint != prefix.fingerprint:
        raise CedKVError("slots can only be swapped between states of the same model")
    keys, values, active = prefix.keys.clone(), prefix.values.clone(), prefix.active.clone()
    keys[:, :, slot] = other.keys[:, :, other_slot].to(keys.dtype)
    values[:, :, slot] = other.values[:, :, other_slot].to(values.dtype)
    active[:, slot] = other.active[:, other_slot]
    return replace(prefix, keys=keys, values=values, active=active, mixture=_without_row(prefix.mixture, slot))


def _without_row(mixture: Mixture | None, slot: int) -> Mixture | None:
    """A slot from elsewhere has no weights on these demonstrations."""
    if mixture is None:
        return None
    others = torch.arange(mixture.weights.shape[2]) != slot
    keys, empty = mixture.key_weights, {"value_gain": 1.0}
    numbers: dict[str, Any] = {
        name: torch.where(others, held, empty.get(name, 0.0))
        for name in PER_SLOT
        if (held := getattr(mixture, name)) is not None
    }
    return replace(
        mixture,
        weights=mixture.weights * others[:, None],
        key_weights=None if keys is None else keys * others[:, None],
        **numbers,
    )
