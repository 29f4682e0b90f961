"""Why this answer: for every token how much it attends to each slot, and what changes where the slot is missing.

Attention is a hint, the ablation is the proof: a slot that much attention goes to may change nothing, and one with
little may carry the answer.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.lm import LanguageModel, iter_log_probs, log_probs, read_attention
from cedkv.lm.forward import part_of
from cedkv.metrics import kl
from cedkv.state import KVPrefix

_NAMED_HEADS = 3
_NAMED_TOKENS = 2


@dataclass(frozen=True)
class MadeOf:
    """What a slot is mostly made of: texts of tokens with in how many demonstrations they stand and their share.

    sink : it is the text's first token, to which attention goes that has nowhere else to go.
    """

    tokens: tuple[tuple[str, int, float], ...]
    sink: bool = False


@dataclass(frozen=True)
class SlotPart:
    """One slot's part in one token.

    made_of : None for a free vector.
    attention : what the token's position gives it, mean over layers and heads.
    change : of the measured value once the slot is switched off, nats.
    heads : the (layer, head, attention) that attend to it most, from 0.
    """

    made_of: MadeOf | None
    attention: float
    change: float
    heads: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class Why:
    """What each slot of a state did to each token of an answer, or at each position of a text.

    kind : `answer`, measured in log p(token); or `text`, measured in Delta of what follows the token. Nats both.
    method : the state it is about.
    measured, without : with all slots, and with each one switched off.
    attention : from the position at which the value is read to each slot.
    """

    kind: str
    method: str
    tokens: tuple[str, ...]
    made_of: tuple[MadeOf | None, ...]
    measured: Float[Tensor, " tokens"]
    without: Float[Tensor, "slots tokens"]
    attention: Float[Tensor, "layers heads tokens slots"]

    @property
    def worst(self) -> int:
        """The token to look at first: a text's most disturbed position, an answer's beginning."""
        return int(self.measured.argmax()) if self.kind == "text" else 0

    def values(self) -> list[float]:
        """The measured value per token, nats."""
        return self.measured.tolist()

    def strongest(self, token: int) -> int:
        """The slot (from 0) whose absence changes this token most."""
        return int((self.without[:, token] - self.measured[token]).abs().argmax())

    def parts(self, token: int) -> list[SlotPart]:
        """Every slot's part in one token."""
        changes = (self.without[:, token] - self.measured[token]).tolist()
        means = self.attention[:, :, token].mean(dim=(0, 1)).tolist()
        return [
            SlotPart(made_of, means[slot], changes[slot], self._heads(token, slot))
            for slot, made_of in enumerate(self.made_of)
        ]

    def head_map(self, token: int, slot: int) -> list[list[float]]:
        """Attention from a token's position to a slot, by layer and head."""
        return self.attention[:, :, token, slot].tolist()

    def _heads(self, token: int, slot: int) -> tuple[tuple[int, int, float], ...]:
        shares = self.attention[:, :, token, slot]
        best = shares.flatten().topk(min(_NAMED_HEADS, shares.numel()))
        places = [divmod(place, shares.shape[1]) for place in best.indices.tolist()]
        return tuple((*place, share) for place, share in zip(places, best.values.tolist(), strict=True))


def why_answer(
    lm: LanguageModel, query: Sequence[int], answer: Sequence[int], prefix: KVPrefix, method: str
) -> Why:
    """Each slot's part in an answer: log p of its tokens with the state, and with each slot switched off.

    The whole state and all ablations share one pack, as long as they fit into one.

    query, answer : token ids; the answer has one at least.
    """
    text, reads = [*query, *answer[:-1]], len(answer)
    views = [prefix, *_ablated(prefix)]
    rows = log_probs(lm, [text] * len(views), views, [reads] * len(views)).view(len(views), reads, -1)
    said = torch.tensor(answer, device=rows.device)
    values = rows.gather(-1, said.expand(len(views), -1)[..., None])[..., 0].cpu()
    return _why(lm, "answer", method, answer, prefix, values, _attention(lm, text, prefix, reads))


@torch.no_grad()
def why_text(lm: LanguageModel, text: Sequence[int], prefix: KVPrefix, method: str) -> Why:
    """Each slot's part in what the state does to a text: `Delta = KL(student || base)` behind every token."""
    base = log_probs(lm, [text], None, [len(text)])
    views = [prefix, *_ablated(prefix)]
    packs = iter_log_probs(lm, [text] * len(views), views, [len(text)] * len(views))
    values = [kl(rows, base.repeat(len(part_of(views, part)), 1)).view(-1, len(text)) for part, rows in packs]
    return _why(lm, "text", method, text, prefix, torch.cat(values).cpu(), _attention(lm, text, prefix, len(text)))


def slots_made_of(prefix: KVPrefix) -> tuple[MadeOf | None, ...]:
    """What each slot is made of, mean over layers and heads; equal tokens of the demonstrations count together."""
    if prefix.mixture is None:
        return (None,) * prefix.slots
    tokens, rows = prefix.mixture.tokens, prefix.mixture.weights.float().mean(dim=(0, 1)).tolist()
    return tuple(_made_of(row, tokens.texts, tokens.demo) for row in rows)


def _made_of(row: Sequence[float], texts: Sequence[str], demo: Sequence[int]) -> MadeOf:
    whole = sum(row)
    shares: dict[str, float] = defaultdict(float)
    demos: dict[str, set[int]] = defaultdict(set)
    for text, place, weight in zip(texts, demo, row, strict=True):
        if weight > 0:
            shares[text] += weight / whole
            demos[text].add(place)
    best = sorted(shares, key=lambda text: -shares[text])[:_NAMED_TOKENS]
    return MadeOf(tuple((text, len(demos[text]), shares[text]) for text in best), sink=row[0] > whole / 2)


def _ablated(prefix: KVPrefix) -> list[KVPrefix]:
    return [prefix.without([slot]) for slot in range(prefix.slots)]


def _attention(
    lm: LanguageModel, text: Sequence[int], prefix: KVPrefix, reads: int
) -> Float[Tensor, "layers heads reads slots"]:
    return read_attention(lm, [text], prefix, tail=reads).to_slots().cpu()


def _why(
    lm: LanguageModel,
    kind: str,
    method: str,
    ids: Sequence[int],
    prefix: KVPrefix,
    values: Float[Tensor, "views tokens"],
    attention: Float[Tensor, "layers heads tokens slots"],
) -> Why:
    tokens = tuple(lm.decode([token]) for token in ids)
    return Why(kind, method, tokens, slots_made_of(prefix), values[0], values[1:], attention)
