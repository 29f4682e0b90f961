"""Frames with slots, and the word lists that fill them.

A frame is a line of text with slots in guillemets: ``«city»`` draws from the word list of that name,
``«2-99»`` draws a whole number between the two (padded with zeros where the lower one is: ``«01-12»``). Words
of one list do not repeat within a text, unless slots share a label: ``«name:1»`` is the same name everywhere.
Frames and lists are text files in ``data/``; lines that start with ``;;`` are comments, ``\\n`` and ``\\t``
are real breaks.
"""

import random
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

_SLOT = re.compile(r"«([^»]+)»")
_RANGE = re.compile(r"(\d+)-(\d+)")


def read_lines(name: str) -> tuple[str, ...]:
    """Lines of ``data/{name}.txt`` without comments and empty lines, with their breaks made real."""
    text = files(__package__).joinpath("data", f"{name}.txt").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if line and not line.startswith(";;"))
    return tuple(line.replace(r"\n", "\n").replace(r"\t", "\t") for line in lines)


def _read_lexicon() -> dict[str, tuple[str, ...]]:
    pairs = (line.split(": ", 1) for line in read_lines("lexicon"))
    return {name: tuple(words.split(" | ")) for name, words in pairs}


LEXICON = _read_lexicon()


def expand(frame: str, rng: random.Random, slots: Mapping[str, Sequence[str]]) -> str:
    """Fill every slot of a frame at random; ``slots`` are lists of the moment, beside the shipped ones."""
    filled: dict[str, str] = {}

    def fill(match: re.Match[str]) -> str:
        slot = match[1]
        if bounds := _RANGE.fullmatch(slot):
            low, high = bounds[1], bounds[2]
            return str(rng.randint(int(low), int(high))).zfill(len(low) if low.startswith("0") else 0)
        name = slot.split(":")[0]
        key = slot if ":" in slot else f"{slot}#{len(filled)}"
        if key not in filled:
            words = slots[name] if name in slots else LEXICON[name]
            taken = set(filled.values())
            if not taken.isdisjoint(words):
                words = [word for word in words if word not in taken] or words
            filled[key] = rng.choice(words)
        return _SLOT.sub(fill, filled[key])

    return _SLOT.sub(fill, frame)
