"""Slots with the least freedom that makes them quiet: means of chunks, of which training learns how much they count.

A log-bias and a value gain per slot, layer and key/value head, some 1,400 numbers for eight slots of a small model; and
where several places of the template share a slot, which of their tokens it is made of. Keys and values stay those of
the demonstrations: what is learnt reads `counts as 4.2 tokens`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cedkv.config import LeastSettings
from cedkv.lm import LanguageModel
from cedkv.lm.weighing import WeightDirections
from cedkv.optim.loop import ParameterGroup
from cedkv.slots.chunked import chunk_weights, chunks_by_place
from cedkv.state import DemoKV, KVPrefix, Mixture


@dataclass
class LeastSlots:
    """Chunked slots with what `LeastSettings` sets free.

    template : the chunked prefix; its mixture says the chunks and its log-biases are where training starts.
    along : what a unit of log-bias adds to each slot's key; zero where a head carries no weight.
    log_bias, gain : the numbers that are learnt; the gain as what it differs from 1.
    logits : of the tokens of each slot's chunk, all alike at the start. mixed : the slots that learn them.
    """

    template: KVPrefix
    demo_kv: DemoKV
    along: Float[Tensor, "layers kv_heads slots head_dim"]
    settings: LeastSettings
    log_bias: Float[Tensor, "layers kv_heads slots"]
    gain: Float[Tensor, "layers kv_heads slots"]
    logits: Float[Tensor, "layers kv_heads slots tokens"]
    mixed: Bool[Tensor, " slots"]

    rates: ClassVar[str] = "phase3.least.weight_lr, gain_lr and within_lr"

    @classmethod
    def warm_start(
        cls,
        lm: LanguageModel,
        chunked: KVPrefix,
        demo_kv: DemoKV,
        directions: WeightDirections,
        settings: LeastSettings,
    ) -> "LeastSlots":
        """Start from chunked slots, which have a mixture with log-biases."""
        assert chunked.mixture is not None and chunked.mixture.log_bias is not None, "chunked slots say what they count"
        bias = chunked.mixture.log_bias.clone()
        mixed = _mixed_slots(chunked.mixture, demo_kv, settings)
        return cls(
            template=chunked,
            demo_kv=demo_kv,
            along=directions.at(lm, chunked.positions, chunked.query_start),
            settings=settings,
            log_bias=bias.requires_grad_(settings.weight),
            gain=torch.zeros_like(bias).requires_grad_(settings.gain),
            logits=bias.new_zeros(*bias.shape, len(demo_kv.tokens)).requires_grad_(bool(mixed.any())),
            mixed=mixed,
        )

    @property
    def groups(self) -> Sequence[ParameterGroup]:
        freedoms = (
            (self.log_bias, self.settings.weight_lr),
            (self.gain, self.settings.gain_lr),
            (self.logits, self.settings.within_lr),
        )
        return [ParameterGroup([numbers], rate) for numbers, rate in freedoms if numbers.requires_grad]

    def mixture(self) -> Float[Tensor, "scope_layers scope_heads slots tokens"]:
        """The weights in force: the chunks' means, or what training made of them."""
        assert self.template.mixture is not None, "chunked slots are mixtures"
        means = self.template.mixture.weights
        if not self.logits.requires_grad:
            return means
        learnt = self.logits.masked_fill(means == 0, -torch.inf).softmax(-1)
        return torch.where(self.mixed[:, None], learnt, means)

    def prefix(self, top_k: int) -> KVPrefix:
        weights, gain = self.mixture(), 1 + self.gain
        vectors = (self.demo_kv.keys, self.demo_kv.values)
        keys, values = (weights.expand(*those.shape[:2], -1, -1) @ those.float() for those in vectors)
        counted = self.log_bias * (self.along != 0).any(-1)
        return replace(
            self.template,
            keys=keys + counted[..., None] * self.along,
            values=values * gain[..., None],
            mixture=Mixture(weights.detach(), self.demo_kv.tokens, log_bias=counted.detach(), value_gain=gain.detach()),
        )

    def structure_loss(self, top_k: int) -> Float[Tensor, ""]:
        """Nothing keeps them apart or sparse: chunks do not overlap."""
        return torch.zeros((), device=self.along.device)


def _mixed_slots(chunked: Mixture, demo_kv: DemoKV, settings: LeastSettings) -> Bool[Tensor, " slots"]:
    """The slots that learn a mixture of their tokens."""
    rows = chunked.weights[0, 0] > 0
    places = chunk_weights(chunks_by_place(demo_kv.tokens), len(demo_kv.tokens)).to(rows.device) > 0
    shared = (rows.float() @ places.float().mT).count_nonzero(dim=-1) > 1
    return {"merged": shared, "all": rows.sum(-1) > 1, "none": torch.zeros_like(shared)}[settings.within_chunks]
