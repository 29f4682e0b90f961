"""The hard pool: OFF texts mined for large Delta. Training samples from it, gates never read it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.episodes import Episode
from cedkv.episodes.off import OffText, off_stream
from cedkv.lm import LanguageModel, log_probs
from cedkv.metrics import kl
from cedkv.state import KVPrefix


@dataclass(frozen=True)
class PooledText:
    """An OFF text with the base's next-token log-probabilities, read once."""

    off: OffText
    ids: list[int]
    base: Float[Tensor, " vocab"]


@dataclass
class HardPool:
    """The `size` texts of largest Delta among all that were seen, renewed from an endless bucketed stream."""

    lm: LanguageModel
    size: int
    stream: Iterator[OffText]
    draw: random.Random
    texts: list[PooledText] = field(default_factory=list)

    @classmethod
    def open(cls, lm: LanguageModel, episode: Episode, size: int) -> "HardPool":
        stream = off_stream("pool", episode.seed, episode.near)
        return cls(lm, size, stream, random.Random(episode.seed))

    def refill(self, student: KVPrefix, candidates: int) -> list[float]:
        """Look at fresh candidates and keep the hardest of old and new; returns the kept Deltas, largest first."""
        fresh = list(islice(self.stream, candidates))
        ids = [self.lm.encode(off.text) for off in fresh]
        base = log_probs(self.lm, ids)
        self.texts += [PooledText(*row) for row in zip(fresh, ids, base, strict=True)]
        delta = self.delta(student)
        hardest = delta.argsort(descending=True)[: self.size].tolist()
        self.texts = [self.texts[index] for index in hardest]
        return delta[hardest].tolist()

    def delta(self, student: KVPrefix) -> Float[Tensor, " texts"]:
        """`Delta` of every pooled text under a student, nats."""
        base = torch.stack([text.base for text in self.texts])
        return kl(log_probs(self.lm, [text.ids for text in self.texts], student), base)

    def sample(self, count: int) -> list[PooledText]:
        return self.draw.sample(self.texts, min(count, len(self.texts)))
