"""A document as an episode: the queries that teach its slots are its own sentences, begun again behind it."""

import random
from collections.abc import Iterator, Sequence

from cedkv.episodes.episode import Episode, Query
from cedkv.state import DemoTokens

# Beginnings that are drawn, and tokens of the longest.
_QUERIES, _LONGEST = 64, 24
_ENDS = (".", "!", "?", "\n")


def document_episode(tokens: DemoTokens, opening: Sequence[int], seed: int = 0) -> Episode:
    """The document, with beginnings of its sentences as training queries: whoever has read it knows how they go on.

    opening : tokens in front of every beginning, such as a blank line.
    """
    begun = list(dict.fromkeys(tokens.ids[start:end] for start, end in beginnings(tokens)))
    drawn = random.Random(f"document {seed}").sample(begun, min(_QUERIES, len(begun)))
    queries = tuple(Query("", "", (*opening, *ids)) for ids in drawn)
    return Episode("document", tokens, queries, "its own sentences", (), "labels", seed)


def beginnings(tokens: DemoTokens) -> Iterator[tuple[int, int]]:
    """Start and end (exclusive) of every beginning of a sentence that something comes after; one that is too long
    begins anew."""
    start = next((place for place, demo in enumerate(tokens.demo) if demo >= 0), len(tokens))
    for end in range(start + 1, len(tokens)):
        if tokens.texts[end - 1].rstrip(" ").endswith(_ENDS) or end - start > _LONGEST:
            start = end
        else:
            yield start, end
