"""Tables of Markdown and Org: cells between pipes, with a rule under the names."""

import re

from cedkv.episodes.relation.parse.fields import left_out, named_sides, unclear
from cedkv.episodes.relation.parse.reading import Format, Found, Outcome, Refusal, Strength
from cedkv.episodes.relation.parse.rows import numbered_lines

_RULE = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:[|+][ \t]*:?-+:?[ \t]*)+\|?")
_PIPE = re.compile(r"(?<!\\)\|")


def _read(text: str) -> Outcome:
    lines = numbered_lines(text)
    if len(lines) < 2 or not _RULE.fullmatch(lines[1][1]) or "|" not in lines[0][1]:
        return None
    rows = [(number, _cells(line)) for number, line in lines if not _RULE.fullmatch(line)]
    names, rest = rows[0][1], rows[1:]
    for number, cells in rest:
        if len(cells) != len(names):
            return Refusal(
                f"line {number} of the table has {len(cells)} cells where the first has {len(names)}; write a pipe "
                "inside a cell as \\|",
                Strength.SURE,
            )
    named = named_sides(names) or ((0, 1) if len(names) == 2 else None)
    if named is None:
        return Refusal(f"the table's names: {unclear(names)}", Strength.SURE)
    detail = f", input from {names[named[0]]!r}, output from {names[named[1]]!r}"
    pairs = [(number, cells[named[0]], cells[named[1]]) for number, cells in rest]
    return Found(pairs, Strength.SURE, detail, warnings=left_out(names, named))


def _cells(line: str) -> list[str]:
    inner = re.sub(r"(?<!\\)\|$", "", line.removeprefix("|"))
    return [cell.strip().replace("\\|", "|") for cell in _PIPE.split(inner)]


MARKDOWN = Format("markdown", "a Markdown table", _read)
