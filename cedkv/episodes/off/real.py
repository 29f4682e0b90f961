"""Real text, which no frame made: prose, manuals, licences, code and other languages.

The pieces ship with the package, `data/real_text.json`, so figures are the same on every machine; their sources and
licences stand beside them, `data/real_text_licences.txt`.
"""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import zip_longest
from typing import Literal

from cedkv.episodes.off.length import can_be_cut, cut, length_class
from cedkv.episodes.off.sampler import OffText

Part = Literal["judged", "pool"]

_WORD_START = re.compile(r"(?<=\s)\S")
# Characters in which a text of the pool begins at least that far from the end of its piece.
_LEAST = 120


@dataclass(frozen=True)
class RealText:
    """A piece of some 500 characters, fewer where a character takes several tokens.

    kind : prose, manual, licence, code or other_language.
    """

    kind: str
    language: str
    source: str
    licence: str
    text: str


@cache
def _pieces(part: Part) -> tuple[RealText, ...]:
    content = json.loads(files(__package__).joinpath("data", "real_text.json").read_text(encoding="utf-8"))
    return tuple(
        RealText(**{name: value for name, value in row.items() if name != "part"})
        for row in content["pieces"]
        if row["part"] == part
    )


def real_texts(part: Part, count: int | None = None) -> tuple[RealText, ...]:
    """The first pieces that are judged, or those of the training pool; kinds take turns, and no source is in both.

    The same ones for every seed and episode, so that figures can be compared.
    """
    by_kind: dict[str, list[RealText]] = {}
    for piece in _pieces(part):
        by_kind.setdefault(piece.kind, []).append(piece)
    turns = (piece for turn in zip_longest(*by_kind.values()) for piece in turn if piece)
    return tuple(turns)[:count]


def real_stream(seed: int) -> Iterator[OffText]:
    """Endless short stretches of the pool's pieces, as training reads OFF texts; the bucket is the piece's kind."""
    rng, seen = random.Random(f"real_text/{seed}"), set[str]()
    while True:
        for piece in real_texts("pool"):
            starts = [0, *(match.start() for match in _WORD_START.finditer(piece.text))]
            far = [start for start in starts if start + _LEAST <= len(piece.text)]
            rest = piece.text[rng.choice(far) :]
            text = cut(rest, rng) if can_be_cut(rest) else ""
            if text and text not in seen:
                seen.add(text)
                yield OffText(text, piece.kind, length_class(text))


def ordinary_text() -> str:
    """English prose of the pool, one paragraph after another: what an innocent user may have in front of a text."""
    return "\n\n".join(piece.text for piece in real_texts("pool") if piece.kind == "prose")
