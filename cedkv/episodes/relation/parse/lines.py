"""One demonstration a line: `input -> output` and other marks between the two sides."""

import re
from dataclasses import replace
from functools import partial

from cedkv.episodes.relation.parse.fields import is_heading, named_sides
from cedkv.episodes.relation.parse.reading import Format, Found, Outcome, Refusal, Strength, short
from cedkv.episodes.relation.parse.rows import (
    balanced,
    masked,
    numbered_lines,
    numbering,
    without_comments,
    without_labels,
    without_quotes,
)

# A run of dashes is looked at once, from its start: a paste may be nothing else.
ARROW = re.compile(r"(?:<|(?<![-=–—<]))[-=–—]+>|[→⇒⟶⟹⇨➔➜➞➡↦]\ufe0f?")
# Marks that prose and code hold too: they count only where every line has exactly one.
_MARKS = {
    "triple-pipe": ("triple pipe", re.compile(r"\|\|\|"), Strength.SURE),
    "equals": ("equals sign", re.compile(r"(?<![=<>!:+*/-])=(?![=>])"), Strength.WEAK),
    "colon": ("colon", re.compile(r"：|(?<!\d):(?!//)|:(?=\s)"), Strength.WEAK),
    "dash": ("dash", re.compile(r"(?<=\s)[-–—](?=\s)"), Strength.WEAK),
}


def arrows_in(line: str) -> list[re.Match[str]]:
    """Arrows outside quotes and code."""
    return list(ARROW.finditer(masked(line)))


def _spaced(line: str, match: re.Match[str]) -> bool:
    return not line[: match.start()][-1:].strip() and not line[match.end() :][:1].strip()


def _kind(match: re.Match[str]) -> str:
    """`->` for `-->` too."""
    return re.sub(r"[-–—]+>", "->", re.sub(r"=+>", "=>", match[0]))


def _read_arrows(text: str) -> Outcome:
    if not ARROW.search(text):
        return None
    rows, warnings = without_comments(numbered_lines(text), arrows_in)
    places = [arrows_in(line) for _, line in rows]
    with_arrow = sum(map(bool, places))
    if not with_arrow:
        return None
    about = ""
    if not places[0] and with_arrow == len(rows) - 1 and rows[0][1].endswith((":", "：")):
        about, rows, places = rows[0][1], rows[1:], places[1:]
        warnings += (f"the text above the demonstrations is no part of them: {about[:60]!r}",)
    if with_arrow < len(rows):
        number, line = next(row for row, found in zip(rows, places, strict=True) if not found)
        strength = Strength.MOSTLY if 2 * with_arrow >= len(rows) else Strength.PARTIAL
        return Refusal(
            f"line {number} of the demonstrations, {line[:60]!r}, has only one side; write 'input -> output'", strength
        )
    spaced = [[m for m in found if _spaced(line, m)] for (_, line), found in zip(rows, places, strict=True)]
    places = spaced if all(spaced) else places
    kinds = [[_kind(match) for match in found] for found in places]
    once = {kind for kind in kinds[0] if all(row.count(kind) == 1 for row in kinds)}
    if any(len(row) > 1 for row in kinds):
        if len(once) > 1:
            both = " or ".join(repr(kind) for kind in sorted(once))
            message = f"the lines could split at {both}; put a side that holds an arrow in double quotes"
            return Refusal(message, Strength.SURE)
        if not once:
            row, found = next((row, found) for row, found in zip(rows, places, strict=True) if len(found) > 1)
            return _several(*row, found)
    chosen = [next(m for m in found if not once or _kind(m) in once) for found in places]
    return replace(_pairs(rows, chosen, Strength.LIKELY, warnings), about=about)


def _several(number: int, line: str, arrows: list[re.Match[str]]) -> Refusal:
    first, last = arrows[0], arrows[-1]
    ways = [f"{short(line[: at.start()].strip())} -> {short(line[at.end() :].strip())}" for at in (first, last)]
    return Refusal(
        f"line {number} of the demonstrations has several arrows: it could be {ways[0]} or {ways[1]}; put a side that "
        "holds an arrow in double quotes",
        Strength.SURE,
    )


def _read_marks(pattern: re.Pattern[str], strength: Strength, text: str) -> Outcome:
    lines = numbered_lines(text)
    if not pattern.search(lines[-1][1]):
        return None
    rows, warnings = without_comments(lines, lambda line: pattern.search(masked(line)))
    places = [list(pattern.finditer(masked(line))) for _, line in rows]
    spaced = [
        [m for m in found if not line[m.end() :][:1].strip()] for (_, line), found in zip(rows, places, strict=True)
    ]
    places = spaced if all(len(found) == 1 for found in spaced) else places
    if any(len(found) != 1 for found in places):
        return None
    found = _pairs(rows, [found[0] for found in places], strength, warnings)
    whole = all(balanced(source) and balanced(target) for _, source, target in found.pairs)
    whole = whole and not all(target.endswith(",") for _, _, target in found.pairs)
    return found if whole and not all(source.endswith(":") for _, source, _ in found.pairs) else None


def _pairs(
    rows: list[tuple[int, str]], places: list[re.Match[str]], strength: Strength, warnings: tuple[str, ...]
) -> Found:
    skips, told = numbering([line[: match.start()] for (_, line), match in zip(rows, places, strict=True)])
    sources = [line[skip : m.start()].strip() for (_, line), m, skip in zip(rows, places, skips, strict=True)]
    targets = [line[m.end() :].strip() for (_, line), m in zip(rows, places, strict=True)]
    sources, targets, bared = without_quotes(sources, targets, ARROW)
    sources, targets, more = without_labels(sources, targets)
    pairs, warnings = list(zip((row[0] for row in rows), sources, targets, strict=True)), warnings + told + bared + more
    if len(pairs) > 1:
        number, source, target = pairs[0]
        if named_sides([source, target]):
            warnings += (f"line {number} names the sides, left out: {source!r}, {target!r}",)
            pairs = pairs[1:]
        elif is_heading(source) and is_heading(target) and not any(is_heading(y) for _, _, y in pairs[1:]):
            warnings += (
                f"line {number} ({source!r}, {target!r}) is read as a demonstration; remove it if it is a heading",
            )
    return Found(pairs, strength, warnings=warnings)


ARROWS = Format("arrow", "lines 'input -> output'", _read_arrows)
MARKS = [
    Format(name, f"lines split at the {sign}", partial(_read_marks, pattern, strength))
    for name, (sign, pattern, strength) in _MARKS.items()
]
