"""An extractor at work: closed-form slots in, the same slots corrected out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.compressors.extractor.net import Extractor
from cedkv.compressors.extractor.places import Places, read_places
from cedkv.lm import LanguageModel
from cedkv.lm.weighing import WeightDirections
from cedkv.optim.loop import ParameterGroup
from cedkv.slots.chunked import Chunk, chunks_by_place
from cedkv.slots.corrected import corrected
from cedkv.state import DemoKV, KVPrefix


@dataclass(frozen=True)
class ExtractorSlots:
    """Slots as an extractor makes them of a block, differentiable in its numbers (`TrainableSlots`).

    template : the closed form. places : what is read of the block.
    along : what a unit of log-bias adds to each slot's key.
    """

    net: Extractor
    template: KVPrefix
    demo_kv: DemoKV
    along: Float[Tensor, "layers kv_heads slots head_dim"]
    places: Places
    rates: str = "the learning rates of training"

    @classmethod
    def of(
        cls, net: Extractor, lm: LanguageModel, closed: KVPrefix, demo_kv: DemoKV, directions: WeightDirections
    ) -> "ExtractorSlots":
        along = directions.at(lm, closed.positions, closed.query_start)
        places = read_places(demo_kv, chunks_by_place(demo_kv.tokens), chunks_in(closed))
        return cls(net, closed, demo_kv, along, places)

    @property
    def groups(self) -> Sequence[ParameterGroup]:
        """None of their own: it is the extractor that learns."""
        return []

    def prefix(self, top_k: int = 0) -> KVPrefix:
        told = self.net(self.places)
        return corrected(self.template, self.demo_kv, self.along, told, self.places.shares, self.places.member)

    def structure_loss(self, top_k: int) -> Float[Tensor, ""]:
        return torch.zeros((), device=self.along.device)


@torch.no_grad()
def extracted(
    net: Extractor, lm: LanguageModel, closed: KVPrefix, demo_kv: DemoKV, directions: WeightDirections
) -> KVPrefix:
    """The closed form as an extractor corrects it."""
    return ExtractorSlots.of(net, lm, closed, demo_kv, directions).prefix()


def chunks_in(closed: KVPrefix) -> list[Chunk]:
    """The tokens of each slot."""
    assert closed.mixture is not None, "chunks are mixtures"
    return [tuple(row.nonzero()[:, 0].tolist()) for row in closed.mixture.weights[0, 0]]
