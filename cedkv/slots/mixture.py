"""Slots as sparse convex mixtures of the demonstrations' own tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cedkv.config import DelimiterSettings, MixtureSettings
from cedkv.optim.loop import ParameterGroup
from cedkv.state import DemoKV, KVPrefix, Mixture

# Logit of a slot's own token above the others at the start: about 0.9 of the mass among 32 tokens. Tokens that only
# attention speaks for begin with less, about a third.
_ANCHOR_LOGIT = 5.0
_ATTENDED_LOGIT = 2.0


def sparse_softmax(
    logits: Float[Tensor, "*rows tokens"], top_k: int, allowed: Bool[Tensor, " tokens"] | None = None
) -> Float[Tensor, "*rows tokens"]:
    """Softmax, top-k mask, renormalise: a convex combination of at most `top_k` tokens per row.

    Computed as the softmax of the `top_k` largest logits, which is the same. The mask is taken as constant, so
    gradients reach only the tokens that are mixed.
    """
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
        top_k = min(top_k, int(allowed.sum()))
    kept = logits.topk(min(top_k, logits.shape[-1]), dim=-1)
    return torch.zeros_like(logits).scatter(-1, kept.indices, kept.values.softmax(dim=-1))


def cap_mass(
    weights: Float[Tensor, "*rows tokens"], capped: Bool[Tensor, " tokens"], cap: float
) -> Float[Tensor, "*rows tokens"]:
    """Scale the capped tokens of each row down to a total of `cap` and the others up, where the row has others."""
    mass, others = ((weights * chosen).sum(-1, keepdim=True) for chosen in (capped, ~capped))
    # Rounding leaves a row of capped tokens alone a hair below one, so the others are asked and not `1 - mass`.
    over = (mass > cap) & (others > 0)
    down, up = cap / mass.clamp_min(cap), (1 - cap) / torch.where(over, others, 1.0)
    return torch.where(over, torch.where(capped, weights * down, weights * up), weights)


@dataclass
class MixtureSlots:
    """Slots as sparse convex mixtures of demonstration tokens.

    logits : `[layers or 1, kv_heads or 1, slots, tokens]`, fp32, the parameters.
    attended : log share of the teacher's attention to each token, above that of the most attended one.
    key_logits : the keys' own where their candidates are others than the values'; elsewhere `logits` are for both.
    anchors : the token each slot started from. Its key is the slot's key with `v_only`.
    """

    demo_kv: DemoKV
    anchors: Int[Tensor, " slots"]
    template: KVPrefix
    settings: MixtureSettings
    layers: list[int]
    learning_rate: float
    attended: Float[Tensor, "scope_layers scope_heads tokens"]
    logits: Float[Tensor, "scope_layers scope_heads slots tokens"]
    key_logits: Float[Tensor, "scope_layers scope_heads slots tokens"] | None = None

    rates: ClassVar[str] = "phase3.optim.lr"

    @classmethod
    def warm_start(
        cls,
        demo_kv: DemoKV,
        warm: KVPrefix,
        attention: Float[Tensor, "layers kv_heads tokens"],
        settings: MixtureSettings,
        layers: list[int],
        learning_rate: float,
    ) -> "MixtureSlots":
        """Start from a prefix of copied tokens: each slot mostly its own token, the rest by the teacher's attention.

        attention : mean attention of ON queries to each token, per layer and key/value head.
        """
        assert warm.mixture is not None, "copied tokens are a mixture"
        anchors = warm.mixture.weights[0, 0].argmax(-1)
        share = attention.clamp_min(1e-6).log()
        if settings.scope == "shared":
            share = share.mean(dim=(0, 1), keepdim=True)
        elif settings.scope == "per_layer":
            share = share.mean(dim=1, keepdim=True)
        attended = share - share.amax(-1, keepdim=True)
        logits = _led_by(anchors.expand(*attended.shape[:2], -1), _ANCHOR_LOGIT, attended).requires_grad_()
        apart = settings.mix_mode == "kv" and settings.key_candidates != settings.value_candidates
        key_logits = logits.detach().clone().requires_grad_() if apart else None
        return cls(demo_kv, anchors, warm, settings, layers, learning_rate, attended, logits, key_logits)

    def starts(self) -> list[Float[Tensor, "scope_layers scope_heads slots tokens"]]:
        """Logits to begin at: as they are now, and each slot led by one of the tokens its own heads attend to most.

        Only tokens that keys and values may have lead: slots that were led by others would be copies of each other.
        """
        allowed = self._allowed(self.settings.key_candidates) & self._allowed(self.settings.value_candidates)
        most = self.attended.masked_fill(~allowed, -torch.inf).topk(len(self.anchors), dim=-1).indices
        return [self.logits.detach().clone(), _led_by(most, _ATTENDED_LOGIT, self.attended)]

    def set_logits(self, logits: Float[Tensor, "scope_layers scope_heads slots tokens"]) -> None:
        """Put all mixtures, those of keys too, where these logits are."""
        for parameter in self.parameters:
            parameter.data.copy_(logits)

    @property
    def parameters(self) -> list[Tensor]:
        return [self.logits] if self.key_logits is None else [self.logits, self.key_logits]

    @property
    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(self.parameters, self.learning_rate)]

    @property
    def _roles(self) -> Sequence[str]:
        return self.demo_kv.tokens.roles

    def _is(self, role: str) -> Bool[Tensor, " tokens"]:
        return torch.tensor([r == role for r in self._roles], device=self.logits.device)

    def _allowed(self, policy: str) -> Bool[Tensor, " tokens"]:
        return ~self._is("output") if policy == "input_and_delimiter_only" else ~self._is("")

    def value_weights(self, top_k: int) -> Float[Tensor, "scope_layers scope_heads slots tokens"]:
        """The mixtures in force: candidate policy, output factor, top-k, delimiter cap."""
        factor = self.settings.output_factor if self.settings.value_candidates == "all" else 1.0
        bias = torch.where(self._is("output"), torch.tensor(max(factor, 1e-9)).log(), 0.0)
        policy = "all" if self.settings.value_candidates == "all" and factor > 0 else "input_and_delimiter_only"
        weights = sparse_softmax(self.logits + bias, top_k, self._allowed(policy))
        if self.settings.delimiter.cap < 1:
            capped = cap_mass(weights, self._is("delimiter"), self.settings.delimiter.cap)
            weights = torch.where((self.anchors == 0)[:, None], weights, capped)
        return weights

    def key_weights(self, top_k: int) -> Float[Tensor, "key_layers key_heads slots tokens"]:
        """The keys' mixtures: those of the values, or with `v_only` the anchors."""
        if self.settings.mix_mode == "v_only":
            return torch.nn.functional.one_hot(self.anchors, self.logits.shape[-1]).float()[None, None]
        logits = self.logits if self.key_logits is None else self.key_logits
        return sparse_softmax(logits, top_k, self._allowed(self.settings.key_candidates))

    def prefix(self, top_k: int) -> KVPrefix:
        values, keys = self.value_weights(top_k), self.key_weights(top_k)
        if len(self.layers) < self.demo_kv.keys.shape[0]:
            values, keys = self._only_trained_layers(values), self._only_trained_layers(keys)
        return replace(
            self.template,
            keys=_mix(keys, self.demo_kv.keys),
            values=_mix(values, self.demo_kv.values),
            mixture=Mixture(values.detach(), self.demo_kv.tokens, keys.detach()),
        )

    def _only_trained_layers(
        self, weights: Float[Tensor, "scope_layers scope_heads slots tokens"]
    ) -> Float[Tensor, "layers scope_heads slots tokens"]:
        """The mixtures in the layers they are trained for, the anchors in the others."""
        trained = torch.zeros(self.demo_kv.keys.shape[0], 1, 1, 1, dtype=torch.bool, device=weights.device)
        trained[self.layers] = True
        anchors = torch.nn.functional.one_hot(self.anchors, weights.shape[-1]).float()
        return torch.where(trained, weights, anchors)

    def structure_loss(self, top_k: int) -> Float[Tensor, ""]:
        """Mean entropy of the mixtures plus mean overlap of two slots (cosine), plus the delimiter penalty."""
        weights = self.value_weights(top_k)
        # `entr` has an infinite slope at zero, which the cap's products would turn into nan.
        entropy = -(weights * weights.clamp_min(1e-9).log()).sum(-1).mean()
        unit = torch.nn.functional.normalize(weights, dim=-1)
        cosine = unit @ unit.mT
        slots = cosine.shape[-1]
        overlap = (cosine.sum() - cosine.diagonal(dim1=-2, dim2=-1).sum()) / (
            cosine.numel() / slots * max(slots - 1, 1)
        )
        return entropy + overlap + self._delimiter_penalty(weights, self.settings.delimiter)

    def _delimiter_penalty(
        self, weights: Float[Tensor, "scope_layers scope_heads slots tokens"], steering: DelimiterSettings
    ) -> Float[Tensor, ""] | float:
        if steering.penalty == 0:
            return 0.0
        mass = (weights * self._is("delimiter")).sum(-1)[..., self.anchors != 0]
        return steering.penalty * (mass - steering.cap).clamp_min(0).square().mean()


def _led_by(
    tokens: Int[Tensor, "scope_layers scope_heads slots"],
    lead: float,
    attended: Float[Tensor, "scope_layers scope_heads tokens"],
) -> Float[Tensor, "scope_layers scope_heads slots tokens"]:
    """Logits of slots that each start mostly at a token of their own, the rest by attention."""
    logits = attended[:, :, None].repeat(1, 1, tokens.shape[-1], 1)
    return logits.scatter_(-1, tokens[..., None], lead)


def _mix(
    weights: Float[Tensor, "scope_layers scope_heads slots tokens"],
    vectors: Float[Tensor, "layers kv_heads tokens head_dim"],
) -> Float[Tensor, "layers kv_heads slots head_dim"]:
    """Convex combinations of keys or values, in fp32 whatever the model's dtype."""
    return weights.expand(*vectors.shape[:2], -1, -1) @ vectors.float()
