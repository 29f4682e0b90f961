"""Which format a text is in. A new format is a file and a line in `FORMATS`."""

import re
from difflib import get_close_matches

from cedkv.episodes.relation.parse.blocks import BLOCKS
from cedkv.episodes.relation.parse.cola import COLA
from cedkv.episodes.relation.parse.columns import COLUMNS
from cedkv.episodes.relation.parse.documents import JSON, JSON_FIRST, JSON_LISTS, YAML
from cedkv.episodes.relation.parse.lines import ARROWS, MARKS
from cedkv.episodes.relation.parse.markdown import MARKDOWN
from cedkv.episodes.relation.parse.reading import (
    EMPTY,
    Demonstration,
    Format,
    Found,
    Reading,
    Refusal,
    Strength,
    checked,
)
from cedkv.errors import DemoError

FORMATS: dict[str, Format] = {
    form.name: form
    for form in [JSON, JSON_FIRST, JSON_LISTS, YAML, MARKDOWN, BLOCKS, ARROWS, COLA, *COLUMNS, *MARKS]
}  # fmt: skip
_FENCE = re.compile(r"(`{3,}|~{3,})[^\n`]*\n(.*)\n[ \t]*\1[ \t]*", re.S)


def parse_demos(text: str, format: str | None = None) -> list[Demonstration]:
    """Demonstrations of a text in whichever format; `read_demos_text` tells more."""
    return list(read_demos_text(text, format).pairs)


def read_demos_text(text: str, format: str | None = None) -> Reading:
    """Read demonstrations as every format reads the whole text; the surest finding counts.

    format : name of one of `FORMATS`, read as that whatever else it could be.

    Raises
    ------
    DemoError
        Nothing was given, no format reads it, two read it differently, or a demonstration cannot be used.
    """
    text = re.sub(r"\r\n?", "\n", text.removeprefix("\ufeff"))
    if fenced := _FENCE.fullmatch(text.strip()):
        text = fenced[2]
    if not text.strip():
        raise DemoError(EMPTY)
    if format is not None:
        return _read_as(text, known_format(format))
    readings: list[tuple[Strength, Reading]] = []
    refusals: list[Refusal] = []
    for form in FORMATS.values():
        outcome = None if form.asked_only else form.read(text)
        if isinstance(outcome, Found):
            try:
                readings.append((outcome.strength, checked(outcome, form)))
            except DemoError as error:
                refusals.append(Refusal(str(error), outcome.strength))
        elif outcome:
            refusals.append(outcome)
    return _surest(text, readings, refusals)


def known_format(name: str) -> Format:
    """A format by its name.

    Raises
    ------
    DemoError
        No format is called so.
    """
    if name not in FORMATS:
        nearest = get_close_matches(name, FORMATS, n=1, cutoff=0.0)[0]
        raise DemoError(f"no format is called {name!r}; did you mean {nearest!r}? Choose from {', '.join(FORMATS)}")
    return FORMATS[name]


def _read_as(text: str, form: Format) -> Reading:
    outcome = form.read(text)
    if outcome is None:
        raise DemoError(f"the demonstrations cannot be read as {form.label}; leave out the format to find it out")
    if isinstance(outcome, Refusal):
        raise DemoError(outcome.message)
    return checked(outcome, form)


def _surest(text: str, readings: list[tuple[Strength, Reading]], refusals: list[Refusal]) -> Reading:
    strongest = max([strength for strength, _ in readings] + [refusal.strength for refusal in refusals], default=None)
    if strongest is None:
        first = text.strip().split("\n")[0][:60]
        raise DemoError(f"the first demonstration, {first!r}, has only one side; write 'input -> output' on each line")
    best = [reading for strength, reading in readings if strength == strongest]
    if not best:
        raise DemoError(next(refusal.message for refusal in refusals if refusal.strength == strongest))
    other = next((reading for reading in best if reading.pairs != best[0].pairs), None)
    if other:
        raise DemoError(
            f"the demonstrations could be {best[0].label} or {other.label}; choose the format "
            f"{best[0].format} or {other.format}"
        )
    return best[0]
