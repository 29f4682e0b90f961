"""Slots with the least freedom that makes them quiet: means of chunks, of which training learns how much they count.

A log-bias and a value gain per slot, layer and key/value head, some 1,400 numbers for eight slots of a small model; and
where several places of the template share a slot, which of their tokens it is made of. Keys and values stay those of
the demonstrations: what is learnt reads `counts as 4.2 tokens`. Further freedoms are settings, each with its own number
in the state.
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

Factors = tuple[
    Float[Tensor, "layers kv_heads slots head_dim rank"], Float[Tensor, "layers kv_heads slots rank head_dim"]
]


@dataclass
class LeastSlots:
    """Chunked slots with what `LeastSettings` sets free.

    template : the chunked prefix; its mixture says the chunks and its log-biases are where training starts.
    along : what a unit of log-bias adds to each slot's key; zero where a head carries no weight.
    log_bias, gain : the numbers that are learnt; the gain as what it differs from 1.
        Where layers or heads share their numbers, one stands for all.
    logits : of the tokens of each slot's chunk, all alike where it starts as their mean.
    mixed : the slots that learn them.
    apart : what a unit of selective weight adds to each slot's key; zero where none is learnt.
    selective : log-biases that queries of the relation feel and other texts do not.
    turn : the two factors of what is added to each value, a map of low rank of the value itself.
    """

    template: KVPrefix
    demo_kv: DemoKV
    along: Float[Tensor, "layers kv_heads slots head_dim"]
    settings: LeastSettings
    log_bias: Float[Tensor, "shared_layers shared_heads slots"]
    gain: Float[Tensor, "shared_layers shared_heads slots"]
    logits: Float[Tensor, "layers kv_heads slots tokens"]
    mixed: Bool[Tensor, " slots"]
    apart: Float[Tensor, "layers kv_heads slots head_dim"]
    selective: Float[Tensor, "shared_layers shared_heads slots"]
    turn: Factors

    rates: ClassVar[str] = "the learning rates of phase3.least"

    @classmethod
    def warm_start(
        cls,
        lm: LanguageModel,
        chunked: KVPrefix,
        demo_kv: DemoKV,
        directions: WeightDirections,
        settings: LeastSettings,
        apart: Float[Tensor, "layers kv_heads slots head_dim"] | None = None,
    ) -> "LeastSlots":
        """Start from chunked slots, which have a mixture with log-biases and may have gains.

        apart : from `selective_directions`, where a selective weight is learnt.
        """
        assert chunked.mixture is not None and chunked.mixture.log_bias is not None, "chunked slots say what they count"
        closed, along = chunked.mixture.log_bias, directions.at(lm, chunked.positions, chunked.query_start)
        mixed, bias = _mixed_slots(chunked.mixture, demo_kv, settings), _shared(closed, along, settings.shared)
        gain = torch.zeros_like(bias)
        if chunked.mixture.value_gain is not None:
            gain = _shared(chunked.mixture.value_gain - 1, along, settings.shared)
        return cls(
            template=chunked,
            demo_kv=demo_kv,
            along=along,
            settings=settings,
            log_bias=bias.clone().requires_grad_(settings.weight),
            gain=gain.clone().requires_grad_(settings.gain),
            logits=_logits(chunked.mixture.weights, closed).requires_grad_(bool(mixed.any())),
            mixed=mixed,
            apart=torch.zeros_like(along) if apart is None else apart,
            selective=torch.zeros_like(bias).requires_grad_(apart is not None),
            turn=_turn(along, settings.value_rank),
        )

    @property
    def groups(self) -> Sequence[ParameterGroup]:
        freedoms = (
            (self.log_bias, self.settings.weight_lr),
            (self.gain, self.settings.gain_lr),
            (self.logits, self.settings.within_lr),
            (self.selective, self.settings.weight_lr),
            *((factor, self.settings.value_rank_lr) for factor in self.turn),
        )
        return [ParameterGroup([numbers], rate) for numbers, rate in freedoms if numbers.requires_grad]

    def mixture(self) -> Float[Tensor, "scope_layers scope_heads slots tokens"]:
        """The weights in force: the chunks' means, or what training made of them."""
        means = self._chunks.weights
        if not self.logits.requires_grad:
            return means
        learnt = self.logits.masked_fill(means == 0, -torch.inf).softmax(-1)
        return torch.where(self.mixed[:, None], learnt, means)

    def prefix(self, top_k: int) -> KVPrefix:
        weights, gain, felt = self.mixture(), self.gained(), self._learnt(self.selective)
        vectors = (self.demo_kv.keys, self.demo_kv.values)
        keys, means = (weights.expand(*those.shape[:2], -1, -1) @ those.float() for those in vectors)
        counted, added = self.counted(), self.turned(means)
        return replace(
            self.template,
            keys=keys + counted[..., None] * self.along + felt[..., None] * self.apart,
            values=means * gain[..., None] + added,
            mixture=Mixture(
                weights.detach(),
                self.demo_kv.tokens,
                log_bias=counted.detach(),
                value_gain=gain.detach(),
                selective=felt.detach() if self.selective.requires_grad else None,
                value_turn=(added.norm(dim=-1) / means.norm(dim=-1)).detach() if self.settings.value_rank else None,
            ),
        )

    def counted(self) -> Float[Tensor, "layers kv_heads slots"]:
        """The log-biases that keys carry: none in heads without a usable direction."""
        bias = self.log_bias
        if self.settings.pure_sink:
            fixed = self._chunks.log_bias
            assert fixed is not None, "chunked slots say what they count"
            bias = torch.where(self._pure, fixed, bias)
        return bias * (self.along != 0).any(-1)

    def gained(self) -> Float[Tensor, "layers kv_heads slots"]:
        """The factors on values."""
        gain, fixed = 1 + self._learnt(self.gain), self._chunks.value_gain
        return torch.where(self._pure, fixed, gain) if self.settings.pure_sink and fixed is not None else gain

    def turned(
        self, means: Float[Tensor, "layers kv_heads slots head_dim"]
    ) -> Float[Tensor, "layers kv_heads slots head_dim"]:
        """What the map of low rank adds to the values."""
        into, out = self.turn
        return (means[..., None, :] @ into @ out)[..., 0, :]

    def structure_loss(self, top_k: int) -> Float[Tensor, ""]:
        """What counting costs, `log(1 + count)` in the mean, and how far the added map is from none."""
        settings, loss = self.settings, torch.zeros((), device=self.along.device)
        if settings.price:
            loss = loss + settings.price * torch.nn.functional.softplus(self.counted()).mean()
        if settings.value_rank:
            loss = loss + sum(factor.square().sum() for factor in self.turn) / self.along[..., 0].numel()
        return loss

    @property
    def _chunks(self) -> Mixture:
        assert self.template.mixture is not None, "chunked slots are mixtures"
        return self.template.mixture

    @property
    def _pure(self) -> Bool[Tensor, " slots"]:
        """The slots that are the attention sink alone."""
        rows = self._chunks.weights[0, 0] > 0
        return rows[:, 0] & (rows.sum(-1) == 1)

    def _learnt(
        self, numbers: Float[Tensor, "shared_layers shared_heads slots"]
    ) -> Float[Tensor, "layers kv_heads slots"]:
        """Numbers for every layer and head; none for a sink that is left as it is."""
        kept = ~self._pure if self.settings.pure_sink else torch.ones_like(self._pure)
        return (numbers * kept).expand(self.along.shape[:3])


def _shared(
    bias: Float[Tensor, "layers kv_heads slots"], along: Float[Tensor, "layers kv_heads slots head_dim"], shared: str
) -> Float[Tensor, "shared_layers shared_heads slots"]:
    """Log-biases to start from, of a head that carries weights where heads or layers share them."""
    if shared == "none":
        return bias
    heads = (along != 0).any(-1).any(-1).flatten()
    carried = bias.flatten(0, 1)[heads][:1] if heads.any() else bias.flatten(0, 1)[:1]
    return carried[None].expand(bias.shape[0] if shared == "heads" else 1, 1, -1)


def _logits(
    weights: Float[Tensor, "scope_layers scope_heads slots tokens"], bias: Float[Tensor, "layers kv_heads slots"]
) -> Float[Tensor, "layers kv_heads slots tokens"]:
    """Logits whose softmax within a slot is its mixture: zero for means, which all layers and heads share."""
    if weights.shape[:2] == (1, 1):
        return bias.new_zeros(*bias.shape, weights.shape[-1])
    inside = weights > 0
    return torch.where(inside, (weights.where(inside, 1) * inside.sum(-1, keepdim=True)).log(), 0)


def _turn(along: Float[Tensor, "layers kv_heads slots head_dim"], rank: int) -> Factors:
    """The factors of a map that adds nothing yet: the first is drawn, the second zero."""
    size = along.shape[-1]
    into = torch.randn(size, rank, generator=torch.Generator().manual_seed(0)) / size**0.5
    into = into.to(along).expand(*along.shape, -1).clone()
    out = torch.zeros_like(into.mT)
    return into.requires_grad_(rank > 0), out.requires_grad_(rank > 0)


def _mixed_slots(chunked: Mixture, demo_kv: DemoKV, settings: LeastSettings) -> Bool[Tensor, " slots"]:
    """The slots that learn a mixture of their tokens."""
    rows = chunked.weights[0, 0] > 0
    places = chunk_weights(chunks_by_place(demo_kv.tokens), len(demo_kv.tokens)).to(rows.device) > 0
    shared = (rows.float() @ places.float().mT).count_nonzero(dim=-1) > 1
    return {"merged": shared, "all": rows.sum(-1) > 1, "none": torch.zeros_like(shared)}[settings.within_chunks]
