"""Unconstrained slots: the ceiling that mixtures are compared with."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.optim.loop import ParameterGroup
from cedkv.state import KVPrefix


@dataclass
class FreeSlots:
    """Unconstrained slots: keys and values are the parameters (prefix tuning, Li & Liang 2021; as in PEFT's cartridge).

    Parameters are offsets from the warm start in units of each layer's and head's own key and value size, so that
    one learning rate serves all. With `frozen_sink` the first slot stays as it is.
    """

    template: KVPrefix
    learning_rate: float
    frozen_sink: bool
    parameters: list[Tensor]

    rates: ClassVar[str] = "phase3.optim.free_lr"

    @classmethod
    def warm_start(cls, warm: KVPrefix, learning_rate: float, frozen_sink: bool) -> "FreeSlots":
        offsets = [torch.zeros_like(warm.keys, dtype=torch.float32, requires_grad=True) for _ in range(2)]
        return cls(replace(warm, mixture=None), learning_rate, frozen_sink, offsets)

    @property
    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(self.parameters, self.learning_rate)]

    def prefix(self, top_k: int) -> KVPrefix:
        keys, values = (
            self._moved(start.float(), offset)
            for start, offset in zip((self.template.keys, self.template.values), self.parameters, strict=True)
        )
        return replace(self.template, keys=keys, values=values)

    def _moved(
        self,
        start: Float[Tensor, "layers kv_heads slots head_dim"],
        offset: Float[Tensor, "layers kv_heads slots head_dim"],
    ) -> Float[Tensor, "layers kv_heads slots head_dim"]:
        size = start.square().mean(dim=(2, 3), keepdim=True).sqrt()
        if self.frozen_sink:
            offset = torch.cat([torch.zeros_like(offset[:, :, :1]), offset[:, :, 1:]], dim=2)
        return start + size * offset

    def structure_loss(self, top_k: int) -> Float[Tensor, ""]:
        return torch.zeros((), device=self.template.keys.device)
