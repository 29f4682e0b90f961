"""Prose that every Python ships: the sentences of its own manual, in a part to train on and one to judge by."""

import hashlib
import re
from functools import cache
from pydoc_data.topics import topics

SPLITS = ("train", "eval")
# Whole sentences of words: no digits, which would be needles of their own, and no code.
_SENTENCE = re.compile(r"[A-Z][A-Za-z ,'\-]+\.")
_WORDS = range(4, 23)
_HELD_OUT = 4  # one of so many


@cache
def sentences(split: str) -> tuple[str, ...]:
    """The sentences of a split, in a fixed order; no sentence is in two of them."""
    text = " ".join(" ".join(topics[name].split()) for name in sorted(topics))
    found = dict.fromkeys(s for s in re.split(r"(?<=[.]) ", text) if _SENTENCE.fullmatch(s))
    return tuple(s for s in found if len(s.split()) in _WORDS and is_held_out(s) == (split == "eval"))


def is_held_out(text: str) -> bool:
    """Whether a sentence or a number is kept for judging: one of four, by its own checksum."""
    return hashlib.sha256(text.encode()).digest()[0] % _HELD_OUT == 0
