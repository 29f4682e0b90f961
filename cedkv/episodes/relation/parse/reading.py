"""What reading a text gives: pairs with how they were found, or why not."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from cedkv.errors import DemoError
from cedkv.events import Noted, Warned
from cedkv.report import DemosBlock

EMPTY = "the demonstrations are empty; paste lines such as 'lift -> lifted'"
_SHOWN = 60


@dataclass(frozen=True)
class Demonstration:
    """One input/output pair of the relation."""

    input: str
    output: str


@dataclass(frozen=True)
class Reading:
    """Demonstrations as they were read.

    format : name of the format, as `--format` takes it.
    label : what a person calls it, such as `semicolon-separated columns`.
    about : the instruction that came with the pairs, empty where there was none. No part of the demonstrations.
    warnings : what was left out or could have been meant otherwise, a sentence each.
    """

    pairs: tuple[Demonstration, ...]
    format: str
    label: str
    about: str = ""
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        count, first = len(self.pairs), self.pairs[0]
        noun = "demonstration" if count == 1 else "demonstrations"
        return f"read {count} {noun} as {self.label}; first: {short(first.input)} -> {short(first.output)}"

    def events(self) -> Iterator[Noted | Warned]:
        """What a face shows of it."""
        yield Noted(str(self))
        yield from map(Warned, self.warnings)

    def as_dict(self) -> DemosBlock:
        """What a report says of it, as `demonstrations_read`."""
        return {
            "format": self.format,
            "reading": str(self),
            "count": len(self.pairs),
            "warnings": list(self.warnings),
        }


class Strength(IntEnum):
    """How surely a text is in a format. The strongest finding counts; two different ones of one strength are refused.

    PARTIAL : some lines only. FAINT : a comma as in prose. WEAK : a mark that prose has too, in every line.
    MOSTLY : an arrow or tab in most lines. LIKELY : a separator in every line. SURE : a structure of its own.
    """

    PARTIAL = 0
    FAINT = 1
    WEAK = 2
    MOSTLY = 3
    LIKELY = 4
    SURE = 5


@dataclass(frozen=True)
class Found:
    """Pairs that a format finds: (line or item number, input, output)."""

    pairs: Sequence[tuple[int, str, str]]
    strength: Strength
    detail: str = ""
    about: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """A text is in the format, and this is wrong with it."""

    message: str
    strength: Strength


Outcome = Found | Refusal | None


@dataclass(frozen=True)
class Format:
    """A way to write demonstrations. `read` gives None for texts in other formats.

    asked_only : it is never detected; only `--format` chooses it.
    """

    name: str
    label: str
    read: Callable[[str], Outcome]
    asked_only: bool = False


def checked(found: Found, form: Format) -> Reading:
    """Demonstrations of which each has both sides and an input of its own.

    Raises
    ------
    DemoError
        A side is empty or no text, an input is given twice, or there are no pairs.
    """
    if not found.pairs:
        raise DemoError(EMPTY)
    seen: dict[str, int] = {}
    for number, source, target in found.pairs:
        if not source or not target:
            side = "input" if not source else "output"
            raise DemoError(
                f"demonstration {number} ({short(source)} -> {short(target)}) has no {side}; give both sides"
            )
        if any("\ud800" <= char <= "\udfff" for char in source + target):
            raise DemoError(
                f"demonstration {number} ({short(source)} -> {short(target)}) holds half a character (a lone "
                "surrogate); write the whole character"
            )
        # Two spellings of one text in Unicode look the same and mean the same.
        composed = unicodedata.normalize("NFC", source)
        if composed in seen:
            raise DemoError(
                f"demonstrations {seen[composed]} and {number} have the same input {short(source)}; keep one of them"
            )
        seen[composed] = number
    pairs = tuple(Demonstration(source, target) for _, source, target in found.pairs)
    return Reading(pairs, form.name, form.label + found.detail, found.about, found.warnings)


def short(text: str) -> str:
    """A text as Python writes it, cut to a line, with nothing in it that a terminal would obey."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
