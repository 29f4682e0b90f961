"""Endless streams and frozen sets of OFF texts.

The splits are disjoint by construction, for any seeds and sizes: the SHA-256 of a text modulo 10 decides the
one split it belongs to. The same hash of the *frame* decides which split may use that frame, so that two
splits never share a source sentence either: texts of different splits are not fillings or beginnings of one
sentence.
"""

import hashlib
import json
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import cycle, islice

from cedkv.episodes.off.buckets import BUCKETS
from cedkv.episodes.off.length import length_class
from cedkv.episodes.off.near import NearFormat
from cedkv.errors import ConfigError

DEFINITION_VERSION = "1"
"""Raised with every change of frames, word lists or sampling: the same seed then draws other texts."""

EVERYDAY = ("prose", "dialogue", "question", "instruction", "numbers")
SPLITS: dict[str, Collection[str]] = {
    "typical": EVERYDAY,
    "stress": BUCKETS,
    "pool": BUCKETS,
}
"""The buckets each split draws from."""

_SPLIT_OF_DIGIT = ("stress",) * 4 + ("typical",) * 2 + ("pool",) * 4


@dataclass(frozen=True)
class OffText:
    """A text that is no query of the relation, to be judged at the token after it."""

    text: str
    bucket: str
    length: str


@dataclass(frozen=True)
class OffSet:
    """A frozen sample; ``sha256`` covers the definition version, the split, size and seed, and every text."""

    texts: tuple[OffText, ...]
    split: str
    size: int
    seed: int
    sha256: str


def split_of(text: str) -> str:
    """The split that owns a text or a frame."""
    return _SPLIT_OF_DIGIT[int.from_bytes(hashlib.sha256(text.encode()).digest()) % 10]


def off_stream(split: str, seed: int, near: NearFormat, buckets: Sequence[str] | None = None) -> Iterator[OffText]:
    """Endless distinct OFF texts, round robin over the buckets.

    A bucket's texts depend on the split, the seed and the bucket only, not on the other buckets chosen.

    Parameters
    ----------
    split : {"typical", "stress", "pool"}
        Everyday texts for evaluation, all kinds of text for evaluation, all kinds for training.
    seed : int
        Same seed, same texts, on every machine.
    near : NearFormat
        The episode's template, for the bucket ``near_format``.
    buckets : sequence of str, optional
        A choice of the split's buckets; all of them by default.

    Raises
    ------
    ConfigError
        If the split does not exist, or a bucket is none of the split's.
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown OFF split {split!r}: choose from {', '.join(SPLITS)}")
    chosen = tuple(SPLITS[split] if buckets is None else buckets)
    if not chosen or (unknown := set(chosen) - set(SPLITS[split])):
        named = ", ".join(map(repr, sorted(unknown))) if chosen else "none"
        raise ConfigError(f"OFF buckets of split {split!r}: got {named}, choose from {', '.join(SPLITS[split])}")
    return _stream(split, seed, near, chosen)


def sample_off(split: str, size: int, seed: int, near: NearFormat, buckets: Sequence[str] | None = None) -> OffSet:
    """The first ``size`` texts of `off_stream`, frozen and hashed.

    Raises
    ------
    ConfigError
        If ``size`` is below 1, or as `off_stream`.
    """
    if size < 1:
        raise ConfigError(f"OFF sample size {size} must be at least 1")
    texts = tuple(islice(off_stream(split, seed, near, buckets), size))
    content = json.dumps([DEFINITION_VERSION, split, size, seed, [astuple(text) for text in texts]])
    return OffSet(texts, split, size, seed, hashlib.sha256(content.encode()).hexdigest())


def _stream(split: str, seed: int, near: NearFormat, buckets: tuple[str, ...]) -> Iterator[OffText]:
    def owned(source: str) -> bool:
        return split_of(source) == split

    makers = {bucket: BUCKETS[bucket].restricted(owned) for bucket in buckets}
    rngs = {bucket: random.Random(f"{split}/{seed}/{bucket}") for bucket in buckets}
    seen: set[str] = set()
    for bucket in cycle(buckets):
        text = makers[bucket](rngs[bucket], near)
        while text in seen or not owned(text):
            text = makers[bucket](rngs[bucket], near)
        seen.add(text)
        yield OffText(text, bucket, length_class(text))
