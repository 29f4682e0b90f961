"""What formats of one demonstration a line share: quotes, numbering, bullets, comments, brackets."""

import re
from collections.abc import Sequence
from itertools import pairwise

_QUOTED = re.compile(
    r'(?:(?<=[\s,;|>:=])|^)"(?:[^"\n]|"")*"(?=$|[\s,;|:=.!?-])|`[^`\n]*`|(?:(?<=[\s,;|>:=])|^)“[^”\n]*”|«[^»\n]*»'
)
_COMMENT = re.compile(r"(?:#+[ \t]+|//[ \t]*)(?=\w)")
_NUMBER = re.compile(r"[(\[]?(\d{1,4})(?:[.)\]][ \t]+(?=\S)|:[ \t]+(?=[^\s\d]))")
_NAMED_NUMBER = re.compile(
    r"(?:example|demonstration|demo|exemplar|sample|case|shot|pair|item|task)[ \t]*#?(\d{1,4})"
    r"(?:[ \t]*[:.)][ \t]+|[ \t]+[-–—][ \t]+)(?=\S)",
    re.I,
)
_BULLET = re.compile(r"([-*•+])[ \t]+(?=\S)")
_LABEL = re.compile(r"[^\W\d_][\w ]{0,20}[:：][ \t]*")
_OPEN, _CLOSE = "([{", ")]}"


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """Lines that hold something, with their numbers from 1."""
    return [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def masked(line: str) -> str:
    """The line with quoted text and code blanked out, place by place."""
    return _QUOTED.sub(lambda match: "\0" * len(match[0]), line)


def without_comments(rows: list[tuple[int, str]], splits) -> tuple[list[tuple[int, str]], tuple[str, ...]]:
    """Rows that are no comments, and a warning for those that are.

    A comment starts with `# ` or `//`. One that also splits like a demonstration is one only as the first line.
    """
    comments = [
        (number, line)
        for place, (number, line) in enumerate(rows)
        if (mark := _COMMENT.match(line)) and (place == 0 or not splits(line)) and mark.end() < len(line)
    ]
    rest = [row for row in rows if row not in comments]
    if not comments or not rest or any(_COMMENT.match(line) for _, line in rest):
        return rows, ()
    return rest, tuple(f"line {number} is a comment, left out: {line[:60]!r}" for number, line in comments)


def numbering(firsts: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """How many characters of each text are its bullet or number, zeros where not all have one, and warnings.

    Numbers that run from 0 or 1 count the lines, and so do those behind a word such as `Example`. Those that only
    grow, or are all 1 as Markdown allows, are left out with a warning; others stay, with a warning too.
    """
    for pattern in (_NAMED_NUMBER, _NUMBER, _BULLET):
        matches = [match for text in firsts if (match := pattern.match(text))]
        if len(matches) == len(firsts) and (pattern is not _BULLET or len({match[1] for match in matches}) == 1):
            ends = [match.end() for match in matches]
            return (ends, ()) if pattern is not _NUMBER else _by_number([int(match[1]) for match in matches], ends)
    return [0] * len(firsts), ()


def _by_number(numbers: list[int], ends: list[int]) -> tuple[list[int], tuple[str, ...]]:
    shown = ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")
    if numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1))):
        return ends, ()
    grow = len(numbers) > 1 and all(a < b for a, b in pairwise(numbers))
    if grow or set(numbers) == {1}:
        return ends, (f"the numbers in front of the lines are left out: {shown}",)
    warning = f"the numbers in front of the lines are part of the inputs: {shown}; remove them if they only count"
    return [0] * len(numbers), (warning,)


def without_quotes(
    sources: Sequence[str], targets: Sequence[str], needed: re.Pattern[str] | None = None
) -> tuple[list[str], list[str], tuple[str, ...]]:
    """Sides without the quotes around them, as `unquoted` takes them off, and a warning where a whole side had them.

    Where they are all that one side adds to the other, to quote is the relation: they stay.
    """
    bare = unquoted(sources, needed), unquoted(targets, needed)
    if bare[0] == bare[1] and (list(sources) == bare[0]) != (list(targets) == bare[1]):
        return list(sources), list(targets), ()
    whole = any(unquoted(side) != list(side) for side in (sources, targets))
    return *bare, (("quotes around the sides are taken off",) if whole else ())


def unquoted(texts: Sequence[str], needed: re.Pattern[str] | None = None) -> list[str]:
    """Texts without the quotes around them: where all are quoted, and where what is inside needs them."""
    inner = [
        text[1:-1]
        if len(text) > 2
        and text[:2] != "``"
        and (text[0], text[-1]) in {('"', '"'), ("“", "”"), ("`", "`")}
        and '"' not in text[1:-1]
        else None
        for text in texts
    ]
    quoted = [text for text in inner if text is not None]
    if len(quoted) == len(inner):
        return quoted
    return [
        new if new is not None and needed and needed.search(new) else old for new, old in zip(inner, texts, strict=True)
    ]


def without_labels(sources: Sequence[str], targets: Sequence[str]) -> tuple[list[str], list[str], tuple[str, ...]]:
    """Sides without labels that every line repeats, as in `word: lift, past: lifted`, and a warning of it."""
    labels = [{match[0] if (match := _LABEL.match(text)) else "" for text in side} for side in (sources, targets)]
    if len(sources) < 2 or any(len(found) != 1 or "" in found for found in labels):
        return list(sources), list(targets), ()
    (first,), (second,) = labels
    if len(set(sources)) < 2 or any(len(text) == len(first) for text in sources):
        return list(sources), list(targets), ()
    warning = f"the labels {first.strip()!r} and {second.strip()!r} of every line are left out"
    return [text[len(first) :] for text in sources], [text[len(second) :] for text in targets], (warning,)


def balanced(text: str) -> bool:
    """Whether every bracket that opens is closed; a smiley or `a)` counts as open."""
    open_ = []
    for char in masked(text):
        if char in _OPEN:
            open_.append(_CLOSE[_OPEN.index(char)])
        elif char in _CLOSE and (not open_ or open_.pop() != char):
            return False
    return not open_
