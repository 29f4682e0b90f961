"""What formats of one demonstration a line share: quotes, numbering, bullets, comments, brackets."""

import re
from collections.abc import Sequence

_QUOTED = re.compile(
    r'(?:(?<=[\s,;|>:=])|^)"(?:[^"\n]|"")*"(?=$|[\s,;|:=.!?-])|`[^`\n]*`|(?:(?<=[\s,;|>:=])|^)“[^”\n]*”|«[^»\n]*»'
)
_COMMENT = re.compile(r"(?:#+[ \t]+|//[ \t]*)(?=\w)")
_NUMBER = re.compile(r"[(\[]?(\d{1,4})[.)\]][ \t]+(?=\S)")
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


def numbering(firsts: Sequence[str]) -> list[int]:
    """How many characters of each text are its bullet or running number; zeros where not all have one."""
    for pattern in (_NUMBER, _BULLET):
        matches = [pattern.match(text) for text in firsts]
        if all(matches):
            marks = [match[1] for match in matches]
            start = int(marks[0]) if marks[0].isdigit() else None
            running = [str(start + i) for i in range(len(marks))] if start in (0, 1) else marks[:1] * len(marks)
            if marks == running and (start in (0, 1) or not marks[0].isdigit()):
                return [match.end() for match in matches]
    return [0] * len(firsts)


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
    if all(text is not None for text in inner):
        return inner
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
