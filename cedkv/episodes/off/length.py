"""Length classes, and cutting a text to one of them.

Length is counted in *pieces*, a rough token count that needs no tokenizer: a run of ASCII letters, up to two
digits, up to two ASCII signs, or one character of another script. Evaluation time follows the token count.
"""

import random
import re
from collections.abc import Iterator
from itertools import islice

LENGTHS = {"short": range(4, 9), "medium": range(9, 19), "long": range(19, 33)}
_WEIGHTS = {"short": 0.35, "medium": 0.4, "long": 0.25}
_PIECE = re.compile(r"[A-Za-z]+|\d{1,2}|[!-/:-@\[-`{-~]{1,2}|[^\s!-~]")
_CLASSES = {pieces: name for name, span in LENGTHS.items() for pieces in span}
_LONGEST = max(_CLASSES)


def count_pieces(text: str) -> int:
    """Length of a text in pieces."""
    return sum(1 for _ in _PIECE.finditer(text))


def length_class(text: str) -> str:
    """``short`` (up to 8 pieces), ``medium`` (up to 18) or ``long``."""
    pieces = count_pieces(text)
    return next((name for name, span in LENGTHS.items() if pieces < span.stop), "long")


def cut(text: str, rng: random.Random) -> str:
    """A beginning of ``text``, of a random length class and ending at the end of a word."""
    ends: dict[str, list[int]] = {}
    for pieces, end in _word_ends(text):
        if name := _CLASSES.get(pieces):
            ends.setdefault(name, []).append(end)
    (wanted,) = rng.choices(list(ends), [_WEIGHTS[name] for name in ends])
    return text[: rng.choice(ends[wanted])]


def can_be_cut(text: str) -> bool:
    """Whether a word ends where `cut` may cut; a text may begin with a word or a ruler longer than that."""
    return any(pieces in _CLASSES for pieces, _ in _word_ends(text))


def _word_ends(text: str) -> Iterator[tuple[int, int]]:
    """Pairs of (pieces so far, character offset) wherever a word ends, as far as a text may be cut."""
    for pieces, match in enumerate(islice(_PIECE.finditer(text), _LONGEST), start=1):
        end = match.end()
        if end == len(text) or text[end].isspace() or _stands_alone(text[end - 1]):
            yield pieces, end


def _stands_alone(character: str) -> bool:
    """Whether a character is kana or Han, whose words have no blanks between them."""
    return "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff"
