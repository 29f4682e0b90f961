"""What training needs of slots, whatever they are made of."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from cedkv.optim.loop import ParameterGroup
from cedkv.state import KVPrefix


@runtime_checkable  # so that the tests can check what is passed for it
class TrainableSlots(Protocol):
    """What training needs of slots.

    template : the prefix they start from.
    rates : the settings that say how fast they are trained, for whoever has to lower them.
    """

    @property
    def template(self) -> KVPrefix: ...

    @property
    def rates(self) -> str: ...

    @property
    def groups(self) -> Sequence[ParameterGroup]:
        """The parameters, with a learning rate for each group of them."""
        ...

    def prefix(self, top_k: int) -> KVPrefix:
        """The slots as they are now, differentiable in the parameters."""
        ...

    def structure_loss(self, top_k: int) -> Float[Tensor, ""]:
        """L_str: what keeps slots sparse and different."""
        ...


class MatchedSlots(TrainableSlots, Protocol):
    """Slots that the warm start can fit to attention outputs: all their parameters at one rate."""

    @property
    def parameters(self) -> list[Tensor]: ...

    @property
    def learning_rate(self) -> float: ...


def detached(prefix: KVPrefix) -> KVPrefix:
    """A prefix cut off from the computation that made it."""
    return prefix.with_tensors(prefix.keys.detach(), prefix.values.detach())
