"""Is the answer to a question about a document in the generated text?"""

import re
from collections.abc import Sequence

_WORD = re.compile(r"\w+")


def extracted_passkey(text: str) -> str | None:
    """The first whole word of a text that has a digit in it, as a pass key has; None where there is none.

    `PASSKEY` is no pass key, and `A7B` is one.
    """
    return next((word for word in _WORD.findall(text) if re.search(r"\d", word)), None)


def passkey_correct(text: str, answers: Sequence[str]) -> bool:
    """Whether the pass key that a text names first is one of the answers, no digit more and none less."""
    return extracted_passkey(text) in answers


def values_found(text: str, answers: Sequence[str]) -> float:
    """The share of the answers that stand in a text as whole words, as RULER counts several values."""
    found = set(_WORD.findall(text.lower()))
    phrases = [_WORD.findall(answer.lower()) for answer in answers]
    joined = f" {' '.join(_WORD.findall(text.lower()))} "
    hits = [set(phrase) <= found and bool(phrase) and f" {' '.join(phrase)} " in joined for phrase in phrases]
    return sum(hits) / len(hits)
