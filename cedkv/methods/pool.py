"""The hard pool: OFF texts mined for large Delta. Training samples from it, gates never read it."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.episodes import Episode
from cedkv.episodes.off import OffText
from cedkv.lm import LanguageModel, log_probs
from cedkv.optim.checkpoint import Memory
from cedkv.probe import delta_of
from cedkv.state import KVPrefix


@dataclass(frozen=True)
class PooledText:
    """An OFF text with the base's next-token log-probabilities at its last positions, read once."""

    off: OffText
    ids: list[int]
    base: Float[Tensor, "reads vocab"]


@dataclass
class HardPool:
    """The `size` texts of largest Delta among all that were seen, renewed from an endless bucketed stream.

    reads : positions at the end of each text that training looks at. Mining looks at the last one.
    seen : how many texts the stream has given.
    """

    lm: LanguageModel
    size: int
    stream: Iterator[OffText]
    draw: random.Random
    reads: int = 1
    texts: list[PooledText] = field(default_factory=list)
    seen: int = 0

    @classmethod
    def open(
        cls, lm: LanguageModel, episode: Episode, size: int, reads: int = 1, kinds: Sequence[str] = ("made",)
    ) -> "HardPool":
        return cls(lm, size, episode.pool_stream(kinds), random.Random(episode.seed), reads)

    def refill(self, student: KVPrefix, candidates: int) -> list[float]:
        """Look at fresh candidates and keep the hardest of old and new; returns the kept Deltas, largest first."""
        fresh = list(islice(self.stream, candidates))
        self.seen += candidates
        self.texts += read_base(self.lm, fresh, self.reads)
        delta = self.delta(student)
        hardest = delta.argsort(descending=True)[: self.size].tolist()
        self.texts = [self.texts[index] for index in hardest]
        return delta[hardest].tolist()

    def delta(self, student: KVPrefix) -> Float[Tensor, " texts"]:
        """`Delta` of every pooled text under a student, nats."""
        base = torch.stack([text.base[-1] for text in self.texts])
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


def read_base(lm: LanguageModel, offs: Sequence[OffText], most: int) -> list[PooledText]:
    """OFF texts with what the base says at their last positions, at most so many of each."""
    ids = [lm.encode(off.text) for off in offs]
    # What follows a text's first token nobody needs: alone, a model hardly knows what it says there.
    reads = [max(1, min(most, len(text) - 1)) for text in ids]
    base = log_probs(lm, ids, None, reads).split(reads)
    return [PooledText(*row) for row in zip(offs, ids, base, strict=True)]


def draw_memory(draw: random.Random) -> list[Any]:
    """The state of a generator as JSON can hold it."""
    return list(draw.getstate())


def recall_draw(draw: random.Random, state: list[Any]) -> None:
    version, numbers, gauss = state
    draw.setstate((version, tuple(numbers), gauss))
