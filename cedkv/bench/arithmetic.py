"""How much arithmetic a training step needs, whatever an implementation spends on it.

One multiplication and its addition are two floating-point operations. Counted are the matrix products of the frozen
model: linear layers, the experts that a router sends a token to, attention over the keys that a token may see, and the
LM head on the rows that are read. Not counted are padding, attention that is masked away, gradients of weights, and
what only leads to the embeddings. Norms, activations, softmax and the mixtures themselves are left out too; they are
below one part in a hundred.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from cedkv.errors import ModelError
from cedkv.lm import LanguageModel

# In a last layer only these see every token; the others are needed for the rows that are read.
_KEYS_AND_VALUES = ("k_proj", "v_proj")
# In a first layer the gradients of these would only reach the embeddings.
_FROM_EMBEDDINGS = ("q_proj", "k_proj", "v_proj", "qkv_proj")


@dataclass(frozen=True)
class LayerShape:
    """One decoder layer: its linear maps by name as (inputs, outputs), and its attention."""

    linears: dict[str, tuple[int, int]]
    heads: int
    head_dim: int
    window: int | None

    def linear_flop(self, rows: int, reads: int, without: Sequence[str] = ()) -> int:
        """Of one pass: keys and values of `rows` tokens, everything else of `reads` of them."""
        return sum(
            2 * (rows if name in _KEYS_AND_VALUES else reads) * inputs * outputs
            for name, (inputs, outputs) in self.linears.items()
            if name not in without
        )

    def attention_flop(self, lengths: Sequence[int], reads: Sequence[int], slots: int) -> int:
        """Of a forward: scores and weighted values for every visible pair of a row that is needed and a key."""
        return 4 * self.heads * self.head_dim * visible_pairs(lengths, reads, slots, self.window)


@dataclass(frozen=True)
class ModelShape:
    """What the count needs to know of a model."""

    layers: list[LayerShape]
    hidden: int
    vocab: int

    @classmethod
    def of(cls, lm: LanguageModel) -> "ModelShape":
        config = lm.model.config
        decoder = lm.decoder
        layers = [_layer_shape(lm, *parts) for parts in zip(decoder.layers, decoder.attentions, strict=True)]
        return cls(layers, config.hidden_size, lm.vocab)

    def step_flop(self, lengths: Sequence[int], reads: Sequence[int], active: Sequence[int]) -> int:
        """Forward and backward of one packed batch.

        Parameters
        ----------
        lengths, reads : per text its tokens, and how many of its last rows are read.
        active : per layer the slots that are switched on.
        """
        total = 2 * 2 * sum(reads) * self.hidden * self.vocab
        for index, (layer, slots) in enumerate(zip(self.layers, active, strict=True)):
            needed = reads if index == len(self.layers) - 1 else lengths
            without = _FROM_EMBEDDINGS if index == 0 else ()
            total += layer.linear_flop(sum(lengths), sum(needed))
            total += layer.linear_flop(sum(lengths), sum(needed), without)
            attention = layer.attention_flop(lengths, needed, slots)
            # Backward: the gradients of probabilities, values, queries and keys, twice the two products of forward.
            total += attention if index == 0 else 3 * attention
        return total


def visible_pairs(lengths: Sequence[int], reads: Sequence[int], slots: int, window: int | None) -> int:
    """Pairs of a needed row (the last `reads[i]` of text `i`) and a key it may see: slots and its own text so far."""
    seen = (
        slots + place + 1
        for length, count in zip(lengths, reads, strict=True)
        for place in range(length - count, length)
    )
    return sum(keys if window is None else min(keys, window) for keys in seen)


def _layer_shape(lm: LanguageModel, layer: torch.nn.Module, attention: torch.nn.Module) -> LayerShape:
    linears = {
        name.rpartition(".")[2]: (module.in_features, module.out_features)
        for name, module in layer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    for module in layer.modules():
        if isinstance(getattr(module, "experts", None), torch.nn.Module):
            linears |= _expert_linears(module)
    config = lm.model.config
    # Some architectures slide in some of their layers, others in all of them and say so only in the config.
    window = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
    return LayerShape(linears, config.num_attention_heads, lm.head_dim, window)


def _expert_linears(mixture: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """The router, and the maps of as many experts as it sends each token to, side by side as one map.

    Raises
    ------
    ModelError
        The experts are not kept as `gate_up_proj` and `down_proj` `[experts, outputs, inputs]` beside a router `gate`
        with a `top_k`, so how much they compute is not known.
    """
    try:
        router, experts = cast(Any, mixture.gate), cast(Any, mixture.experts)
        chosen = int(router.top_k)
        _, up_outputs, up_inputs = experts.gate_up_proj.shape
        _, down_outputs, down_inputs = experts.down_proj.shape
        routes, width = router.weight.shape
    except (AttributeError, ValueError) as error:
        raise ModelError(
            f"{type(mixture).__name__} keeps its experts in a way whose arithmetic is not counted: {error}; "
            "benchmark a model without it"
        ) from error
    return {
        "router": (width, routes),
        "expert_gate_up": (up_inputs, chosen * up_outputs),
        "expert_down": (chosen * down_inputs, down_outputs),
    }
