"""The hard pool: OFF texts mined for large Delta. Training samples from it, gates never read it."""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.episodes import Episode
from cedkv.episodes.off import OffText, off_stream
from cedkv.lm import LanguageModel
from cedkv.optim.checkpoint import Memory
from cedkv.probe import OffProbe, delta_of
from cedkv.state import KVPrefix


@dataclass(frozen=True)
class PooledText:
    """An OFF text with the base's next-token log-probabilities, read once."""

    off: OffText
    ids: list[int]
    base: Float[Tensor, " vocab"]


@dataclass
class HardPool:
    """The `size` texts of largest Delta among all that were seen, renewed from an endless bucketed stream.

    seen : how many texts the stream has given.
    """

    lm: LanguageModel
    size: int
    stream: Iterator[OffText]
    draw: random.Random
    texts: list[PooledText] = field(default_factory=list)
    seen: int = 0

    @classmethod
    def open(cls, lm: LanguageModel, episode: Episode, size: int) -> "HardPool":
        stream = off_stream("pool", episode.seed, episode.near)
        return cls(lm, size, stream, random.Random(episode.seed))

    def refill(self, student: KVPrefix, candidates: int) -> list[float]:
        """Look at fresh candidates and keep the hardest of old and new; returns the kept Deltas, largest first."""
        fresh = list(islice(self.stream, candidates))
        self.seen += candidates
        read = OffProbe(self.lm, [off.text for off in fresh])
        self.texts += [PooledText(*row) for row in zip(fresh, read.ids, read.base, strict=True)]
        delta = self.delta(student)
        hardest = delta.argsort(descending=True)[: self.size].tolist()
        self.texts = [self.texts[index] for index in hardest]
        return delta[hardest].tolist()

    def delta(self, student: KVPrefix) -> Float[Tensor, " texts"]:
        """`Delta` of every pooled text under a student, nats."""
        base = torch.stack([text.base for text in self.texts])
        return delta_of(self.lm, [text.ids for text in self.texts], base, student)

    def sample(self, count: int) -> list[PooledText]:
        return self.draw.sample(self.texts, min(count, len(self.texts)))

    def memory(self) -> Memory:
        """What another pool, opened on the same episode, must `recall` to go on from here."""
        plain = {
            "texts": [asdict(text.off) for text in self.texts],
            "seen": self.seen,
            "draw": draw_memory(self.draw),
        }
        return Memory({str(index): text.base for index, text in enumerate(self.texts)}, plain)

    def recall(self, memory: Memory) -> None:
        for _ in islice(self.stream, memory.plain["seen"] - self.seen):
            pass
        self.seen = memory.plain["seen"]
        recall_draw(self.draw, memory.plain["draw"])
        offs = [OffText(**text) for text in memory.plain["texts"]]
        bases = [memory.tensors[str(index)].to(self.lm.device) for index in range(len(offs))]
        self.texts = [PooledText(off, self.lm.encode(off.text), base) for off, base in zip(offs, bases, strict=True)]


def draw_memory(draw: random.Random) -> list[Any]:
    """The state of a generator as JSON can hold it."""
    return list(draw.getstate())


def recall_draw(draw: random.Random, state: list[Any]) -> None:
    version, numbers, gauss = state
    draw.setstate((version, tuple(numbers), gauss))
