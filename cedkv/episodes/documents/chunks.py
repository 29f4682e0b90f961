"""A document in overlapping passages, each of which knows where it is from."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from cedkv.errors import DemoError

_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True)
class Passage:
    """Part of a document: `text` is `document[start:end]`."""

    text: str
    start: int
    end: int
    source: str = ""


def split_passages(
    text: str, encode: Callable[[str], list[int]], tokens: int = 64, overlap: int = 16, source: str = ""
) -> list[Passage]:
    """Passages of about `tokens` tokens that end between words; each begins about `overlap` tokens before the end of
    the one before. A single word that is longer than a passage is one.

    Raises
    ------
    DemoError
        The text is empty, or the overlap leaves no room to go on.
    """
    if not text.strip():
        raise DemoError("the document is empty; paste a text or choose another file")
    if not 0 <= overlap < tokens:
        raise DemoError(f"overlap = {overlap} of passages of {tokens} tokens; it must be smaller than a passage")
    words = [(match.start(), match.end()) for match in _WORD.finditer(text)]
    sizes = [len(encode(text[start:end])) for start, end in words]
    passages: list[Passage] = []
    first = 0
    while True:
        after = _reach(sizes, first, tokens)
        start, end = words[first][0], words[after - 1][1]
        passages.append(Passage(text[start:end], start, end, source))
        if after == len(words):
            return passages
        back = _reach(sizes[first + 1 : after][::-1], 0, overlap) if overlap else 0
        # The word in front of the overlap stays behind, so every passage begins later than the one before.
        first = max(after - back, first + 1)


def _reach(sizes: list[int], first: int, room: int) -> int:
    """The index after the last of the words from `first` on that fit into the room; one word always does."""
    after, used = first, 0
    while after < len(sizes) and (after == first or used + sizes[after] <= room):
        used += sizes[after]
        after += 1
    return after
