"""An episode: a block of text that a prefix stands in for, its queries and its OFF texts, tokenised once.

Each kind of block has a package of its own beside this file (`relation/`) that subclasses `Episode` and builds it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cedkv.episodes.off import PLAIN, NearFormat, OffSet, OffText, off_stream, real_stream, sample_off
from cedkv.errors import ConfigError
from cedkv.events import Event
from cedkv.report import DemosBlock, EpisodeBlock
from cedkv.state import DemoTokens


@dataclass(frozen=True)
class Query:
    """One ON query: the text up to its answer, and the answer where it is known.

    blanks : tokens of the answer that are nothing but white space and come before all others.
    """

    input: str
    text: str
    ids: tuple[int, ...]
    answer: str = ""
    answer_ids: tuple[int, ...] = ()
    blanks: int = 0

    @property
    def first_id(self) -> int:
        """The first token of the answer that belongs to it and is no blank: what `accuracy` is about."""
        return self.answer_ids[self.blanks]

    @property
    def asked_ids(self) -> tuple[int, ...]:
        """The tokens in front of it."""
        return self.ids + self.answer_ids[: self.blanks]


class Read(Protocol):
    """What reading a file found: for the report, and as events for whoever watches."""

    def as_dict(self) -> DemosBlock: ...

    def events(self) -> Iterator[Event]: ...


@dataclass(frozen=True)
class Episode:
    """The block's tokens, its ON queries, and what an answer's end and a near-format OFF text look like.

    The queries of `on_train` and of `on_eval` never overlap. `on_train` answers are not used: the teacher's
    distribution is the target. `on_train_source` says where they are from. `gold` says where the answers of `on_eval`
    come from: `labels`, or `teacher` when there are none, and accuracy then is agreement with the teacher.
    """

    task: str
    tokens: DemoTokens
    on_train: tuple[Query, ...]
    on_train_source: str
    on_eval: tuple[Query, ...]
    gold: str
    seed: int

    @property
    def stop(self) -> str:
        """What ends a generated answer."""
        return "\n"

    @property
    def opening(self) -> str:
        """White space at the end of every query that the tokenizer splits off the answers."""
        return ""

    @property
    def cut_outputs(self) -> int:
        """How many of the given answers go on after `stop`."""
        return 0

    @property
    def reading(self) -> Read | None:
        """How the block was read from a file; None where it was not."""
        return None

    @property
    def near(self) -> NearFormat:
        """What an OFF text that only looks like a query reuses."""
        return PLAIN

    def content(self) -> list[Any]:
        """All that an extraction reads of the episode but OFF texts; evaluation queries are not part of it."""
        return [
            list(self.tokens.ids),
            list(self.tokens.roles),
            [list(query.ids) for query in self.on_train],
            self.seed,
        ]

    @property
    def sha256(self) -> str:
        """Checksum of `content`."""
        return hashlib.sha256(json.dumps(self.content()).encode()).hexdigest()

    def describe(self) -> EpisodeBlock:
        """What a report says of the episode."""
        return {
            "task": self.task,
            "tokens": len(self.tokens),
            "on_train": len(self.on_train),
            "on_train_source": self.on_train_source,
            "on_eval": len(self.on_eval),
            "on_eval_gold": self.gold,
        }

    def off_set(self, split: str, size: int) -> OffSet:
        """A frozen OFF set of this episode: `typical`, `stress`, or `pool` for training."""
        return sample_off(split, size, self.seed, self.near)

    def off_streams(self, split: str) -> dict[str, Iterator[OffText]]:
        """Streams of OFF texts by their kind, of which training may choose."""
        streams = {"made": off_stream(split, self.seed, self.near)}
        return {**streams, "real_text": real_stream(self.seed)} if split == "pool" else streams

    def pool_stream(self, kinds: Sequence[str] = ("made",)) -> Iterator[OffText]:
        """OFF texts to train on, the kinds by turns as long as each has new ones.

        Raises
        ------
        ConfigError
            The episode has texts of none of these kinds.
        """
        streams = self.off_streams("pool")
        live = [streams[kind] for kind in kinds if kind in streams]
        if not live:
            raise ConfigError(f"OFF texts of kind {', '.join(kinds)}: this episode has {', '.join(streams)}")
        while live:
            for stream in tuple(live):
                text = next(stream, None)
                if text is None:
                    live.remove(stream)
                else:
                    yield text
