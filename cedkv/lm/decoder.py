"""The only reach into a decoder's insides: where a model of transformers keeps its layers, attention and rotation.

An architecture that keeps them elsewhere is a change here and nowhere else.
"""

from dataclasses import dataclass
from typing import cast

from torch import nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Decoder:
    """The parts of a model that the engine reads."""

    model: PreTrainedModel

    @property
    def stack(self) -> nn.Module:
        """The module that runs the layers one after the other."""
        return self.model.model

    @property
    def layers(self) -> list[nn.Module]:
        return list(cast(nn.ModuleList, self.stack.layers))

    @property
    def attentions(self) -> list[nn.Module]:
        """The self-attention of every layer."""
        return [cast(nn.Module, layer.self_attn) for layer in self.layers]

    @property
    def rotary(self) -> nn.Module:
        """The rotary embedding that all layers share."""
        return self.model.model.rotary_emb

    @property
    def head_dim(self) -> int:
        return self.model.model.layers[0].self_attn.head_dim

    @property
    def scaling(self) -> float:
        """What attention scores are multiplied by before the softmax."""
        return self.model.model.layers[0].self_attn.scaling
