"""Labelled blocks: `Q:` and `A:`, `Sentence:` and `Sentiment:`, `English:` and `French:`, over one or more lines."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cedkv.episodes.relation.parse.fields import ASIDES, is_heading, label_side, normal
from cedkv.episodes.relation.parse.reading import Format, Found, Outcome, Refusal, Strength
from cedkv.episodes.relation.parse.rows import without_quotes

_LABEL = re.compile(
    r"(?P<indent>[ \t]*)(?:\d{1,4}[.)][ \t]+|#{1,6}[ \t]+)?(?P<bold>\*\*|__)?"
    r"(?P<name>[^\W\d_](?:[\w'/ -]{0,30}\w)?)[ \t]*(?(bold)(?:(?:\*\*|__)[ \t]*[:：]|[:：](?:\*\*|__))|[:：])[ \t]*"
)
_WORD = (
    r"(?:positive |few-shot |training |in-context )?"
    r"(?:example|demonstration|demo|exemplar|sample|case|shot|pair|item|task)s?"
)
# Lines between demonstrations: rules, and headings such as "Example 2:" or "Positive Example 2 -".
_BETWEEN = re.compile(
    rf"[ \t]*(?:[#*=~_-]{{3,}}|{_WORD}[ \t]*(?:[ \t](?-i:[A-Z])|#?\d+)?[ \t]*[-:)]"
    rf"|{_WORD}(?:[ \t](?-i:[A-Z])|[ \t]*#?\d+)\.?"
    rf"|(?:#{{1,6}}[ \t]*|\*\*){_WORD}[ \t]*(?:#?\d+|[A-Z])?[ \t]*(?:\*\*)?[ \t]*[-:.)]?(?:\*\*)?)[ \t]*",
    re.I,
)
# Lines that answers have too. They stand between demonstrations where they stand at all of them.
_NUMBER = re.compile(r"[ \t]*(?:#[ \t]*|\(|\[|<)?(\d{1,4})[.)\]>:]?[ \t]*")
_HEADING = re.compile(rf"[ \t]*{_WORD}[ \t]*", re.I)
_TAG = re.compile(r"[ \t]*<(?P<end>/?)(?P<name>[a-z_]+?)(?:[ _]?\d+)?>[ \t]*", re.I)
_ABOUT = {
    "definition",
    "instruction",
    "instructions",
    "task",
    "description",
    "context",
    "system",
    "goal",
    "note",
    "examples",
}


@dataclass(frozen=True)
class _Line:
    """A line that starts with a label."""

    at: int
    label: str
    name: str
    indent: int
    rest: str


def _read(text: str) -> Outcome:
    lines = text.split("\n")
    labels = [found for at, line in enumerate(lines) if (found := _label(at, line))]
    first = _opening(labels)
    if first is None:
        return None
    marks = _structural(labels, first)
    starts = [i for i, mark in enumerate(marks) if mark.label == first.label]
    blocks = [marks[start:end] for start, end in zip(starts, [*starts[1:], len(marks)], strict=True)]
    ends = [block[0].at for block in blocks[1:]] + [len(lines)]
    closing = _closing(blocks)
    if closing is None:
        return None
    if isinstance(closing, Refusal):
        return closing
    known = {label_side(first.label), label_side(closing)} == {"input", "output"}
    if len(blocks) == 1 and not known:
        return None if len(labels) != 2 or closing == first.label else _one_block(lines, blocks[0], closing)
    between = _between(lines, [block[0].at for block in blocks])
    before = _before(lines[: first.at], between)
    if isinstance(before, Refusal):
        return before
    return _pairs(lines, blocks, ends, closing, between, *before)


def _label(at: int, line: str) -> _Line | None:
    if not (match := _LABEL.match(line)) or _BETWEEN.fullmatch(line):
        return None
    rest, name = line[match.end() :], re.sub(r"[ ]?\d+$", "", match["name"])
    # `http://` and `10:30` hold a colon but no label.
    return None if rest.startswith("//") else _Line(at, normal(name), name, len(match["indent"]), rest)


def _opening(labels: Sequence[_Line]) -> _Line | None:
    """The label that starts each demonstration: the first that is repeated or usual."""
    times = Counter(line.label for line in labels)
    for line in labels:
        if line.label not in _ABOUT and (label_side(line.label) or times[line.label] > 1):
            return line
        if line.label == "instruction" and (times["instruction"] > 1 or "response" in times):
            return line
        if line.label == "context" and times["context"] > 1:
            return line
    return labels[0] if len(labels) == 2 else None


def _structural(labels: Sequence[_Line], first: _Line) -> list[_Line]:
    """From the opening on, labels that can start a side: usual ones anywhere, others where the opening's indent is."""
    return [
        line
        for line in labels
        if line.at >= first.at and (line.indent == first.indent or label_side(line.label) or line.label == first.label)
    ]


def _closing(blocks: Sequence[Sequence[_Line]]) -> str | Refusal | None:
    """The label of the second side, the same in every block."""
    opening = blocks[0][0].label
    names = [[line.label for line in _without_options(block)][1:] for block in blocks]
    times = [Counter(row) for row in names]
    everywhere = [name for name in names[0] if all(row[name] == 1 for row in times)]
    if not everywhere:
        side = label_side(opening)
        others = [name for row in names for name in row if side and label_side(name) not in (None, side)]
        if not side or (len(blocks) == 1 and others):
            twice = len(blocks) == 1 and others
            return (
                Refusal(f"block 1 of the demonstrations has two {others[0].title()!r} lines; keep one", Strength.SURE)
                if twice
                else None
            )
        usual = (
            max(set(others), key=others.count)
            if others
            else {"q": "a", "input": "output", "question": "answer"}.get(opening)
        )
        if usual is None:
            return None
        bad = next(i for i, row in enumerate(names) if row.count(usual) != 1)
        found = _faulty_block(bad, blocks[bad], usual, names[bad].count(usual))
        return found if others else Refusal(found.message, Strength.MOSTLY)
    if len(everywhere) == 1:
        return everywhere[0]
    outputs = [name for name in everywhere if label_side(name) == "output"]
    if label_side(opening) == "output":
        outputs = [name for name in everywhere if label_side(name) == "input"]
    rest = [name for name in everywhere if name not in outputs]
    if len(outputs) == 1:
        place = everywhere.index(outputs[0])
        if all(label_side(n) == "input" for n in everywhere[:place]) and all(
            n in ASIDES for n in everywhere[place + 1 :]
        ):
            return outputs[0]
    listed = ", ".join(repr(name) for name in [opening, *everywhere])
    return Refusal(
        f"each demonstration has the labels {listed}; keep two, such as 'Input:' and 'Output:'",
        Strength.SURE if len(blocks) > 1 or outputs or not rest else Strength.WEAK,
    )


def _faulty_block(number: int, block: Sequence[_Line], label: str, count: int) -> Refusal:
    shown, name = block[0].rest.strip()[:60], label.upper() if len(label) == 1 else label.capitalize()
    inside = re.search(rf"(?<!\w){re.escape(label)}[ \t]*[:：]", block[0].rest, re.I)
    remedy = "; give each label a line of its own" if inside else ""
    what = f"has no '{name}:' line{remedy}" if not count else f"has {count} '{name}:' lines; keep one"
    return Refusal(f"block {number + 1} of the demonstrations, {shown!r}, {what}", Strength.SURE)


def _without_options(block: Sequence[_Line]) -> list[_Line]:
    """A block's labels without the options of its question: `A:`, `B:`, ... in a row."""
    kept, at = [block[0]], 1
    while at < len(block):
        run = 0
        while at + run < len(block) and block[at + run].label == chr(ord("a") + run):
            run += 1
        if run < 2:
            kept.append(block[at])
            run = 1
        at += run
    return kept


def _between(lines: Sequence[str], starts: Sequence[int]) -> set[int]:
    """Places of the lines that stand between demonstrations and are no part of an answer."""
    found = {at for at, line in enumerate(lines) if _BETWEEN.fullmatch(line)}
    found |= _tags(lines, starts, found)
    above = [_last(lines, start, found) for start in starts]
    if all(at >= 0 and _HEADING.fullmatch(lines[at]) for at in above):
        found.update(above)
    numbers = [int(match[1]) if at >= 0 and (match := _NUMBER.fullmatch(lines[at])) else -1 for at in above]
    if numbers in (list(range(1, len(numbers) + 1)), list(range(len(numbers)))):
        found.update(above)
    elif len(numbers) > 2 and numbers[1:] == list(range(2, len(numbers) + 1)):
        bare = any(_LABEL.fullmatch(lines[_last(lines, at, found)]) for at in above[1:])
        found.update(above[1:] if not bare else ())
    return found


def _last(lines: Sequence[str], end: int, skipped: set[int]) -> int:
    """The last place before `end` that holds something else than what is skipped; -1 where there is none."""
    return next((at for at in range(end - 1, -1, -1) if lines[at].strip() and at not in skipped), -1)


def _tags(lines: Sequence[str], starts: Sequence[int], skipped: set[int]) -> set[int]:
    """Tags that open above the first demonstration, or of which one alone ends every demonstration but the last."""
    tags = {at: match for at, line in enumerate(lines) if (match := _TAG.fullmatch(line))}
    names = {match["name"] for at, match in tags.items() if at < starts[0]}
    ends = [match for start in starts[1:] if (match := tags.get(_last(lines, start, skipped)))]
    if ends and len(ends) == len(starts) - 1 and len({match[0].strip() for match in ends}) == 1:
        same = re.findall(rf"<(/?){ends[0]['name']}\b", "\n".join(lines))
        if len(same) == len(ends) or (len(same) == len(starts) and all(same)):
            names.add(ends[0]["name"])
    return {at for at, match in tags.items() if match["name"] in names}


def _before(lines: Sequence[str], between: set[int]) -> tuple[str, tuple[str, ...]] | Refusal:
    """The instruction above the demonstrations. It must stand apart from them."""
    text = "\n".join(lines)
    kept = [line for at, line in enumerate(lines) if line.strip() and at not in between]
    about = "\n".join(line.strip() for line in kept)
    if not about:
        return "", ()
    apart = not lines[-1].strip() or len(lines) - 1 in between or kept[-1].rstrip().endswith(":")
    if not apart:
        return Refusal(
            f"the demonstrations start with {text.strip().split(chr(10))[0][:60]!r}, not with a label such as "
            "'Q:'; remove it",
            Strength.SURE,
        )
    return about, (f"the text above the demonstrations is no part of them: {about[:60]!r}",)


def _one_block(lines: Sequence[str], block: Sequence[_Line], closing: str) -> Found | None:
    """Two labelled lines of which one names a language or the like: a block, or two demonstrations."""
    if not (is_heading(block[0].label) or is_heading(closing)):
        return None
    first, second = block[0], next(line for line in block if line.label == closing)
    source = "\n".join([first.rest, *lines[first.at + 1 : second.at]]).strip()
    target = "\n".join([second.rest, *lines[second.at + 1 :]]).strip()
    return Found([(1, source, target)], Strength.WEAK) if not "".join(lines[: first.at]).strip() else None


def _pairs(
    lines: list[str],
    blocks: list[list[_Line]],
    ends: list[int],
    closing: str,
    between: set[int],
    about: str,
    warnings: tuple[str, ...],
) -> Found:
    sources, targets = [], []
    for block, end in zip(blocks, ends, strict=True):
        first = block[0]
        marks = _without_options(block)
        second = next(line for line in marks[1:] if line.label == closing)
        aside = next(
            (line for line in marks if line.at > second.at and line.label in ASIDES and line.indent == first.indent),
            None,
        )
        if aside:
            end, left = aside.at, f"left out: {aside.label!r} of the demonstrations"
            warnings += (left,) if left not in warnings else ()
        inputs = [line for line in marks[1:] if line.at < second.at and label_side(line.label) == "input"]
        head = lines[first.at].strip() if inputs else first.rest
        sources.append(_side(head, lines, first.at, second.at, between))
        targets.append(_side(second.rest, lines, second.at, end, between))
    targets, more = _without_trailing(targets)
    if label_side(blocks[0][0].label) == "output" or label_side(closing) == "input":
        sources, targets = targets, sources
    sources, targets, bared = without_quotes(sources, targets)
    numbers = range(1, len(sources) + 1)
    shown = next(line.name for line in blocks[0] if line.label == closing)
    detail = f" '{blocks[0][0].name}:' and '{shown}:'"
    return Found(
        list(zip(numbers, sources, targets, strict=True)), Strength.SURE, detail, about, warnings + more + bared
    )


def _side(head: str, lines: Sequence[str], start: int, end: int, between: set[int]) -> str:
    """What stands from the label at `start` to `end`, without what stands between demonstrations."""
    while end > start + 1 and (not lines[end - 1].strip() or end - 1 in between):
        end -= 1
    return "\n".join([head, *lines[start + 1 : end]]).strip()


def _without_trailing(targets: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Outputs of which none has paragraphs but some: what follows the last is left out, others are told."""
    parted = [i for i, target in enumerate(targets) if re.search(r"\n[ \t]*\n", target)]
    if not parted or 2 * len(parted) > len(targets) or len(targets) < 2:
        return targets, ()
    warnings: tuple[str, ...] = ()
    if parted == [len(targets) - 1]:
        kept, rest = re.split(r"\n[ \t]*\n", targets[-1], maxsplit=1)
        return [*targets[:-1], kept.strip()], (f"the text below the demonstrations is no part of them: {rest[:60]!r}",)
    for i in parted:
        warnings += (f"the output of demonstration {i + 1} has several paragraphs",)
    return targets, warnings


BLOCKS = Format("blocks", "labelled blocks", _read)
