"""Tables of Markdown and Org: cells between pipes, with a rule under the names."""

import re

from cedkv.episodes.relation.parse.fields import left_out, named_sides, unclear
from cedkv.episodes.relation.parse.reading import Format, Found, Outcome, Refusal, Strength
from cedkv.episodes.relation.parse.rows import numbered_lines

_RULE = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:[|+][ \t]*:?-+:?[ \t]*)+\|?")
# Org draws rules between rows too.
_ORG_RULE = re.compile(r"\|-+(?:\+-+)+\|")
_PIPE = re.compile(r"(?<!\\)\|")


def _read(text: str) -> Outcome:
    lines = numbered_lines(text)
    top = next((at for at, (_, line) in enumerate(lines) if "|" in line), len(lines))
    if len(lines) < top + 2 or not _RULE.fullmatch(lines[top + 1][1]):
        return None
    about = "\n".join(line for _, line in lines[:top])
    warnings = (f"the text above the table is no part of it: {about[:60]!r}",) if about else ()
    names = _cells(lines[top][1])
    rest = [(number, _cells(line)) for number, line in lines[top + 2 :] if not _ORG_RULE.fullmatch(line)]
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
    return Found(pairs, Strength.SURE, detail, about, warnings + left_out(names, named))


def _cells(line: str) -> list[str]:
    inner = re.sub(r"(?<!\\)\|$", "", line.removeprefix("|"))
    return [cell.strip().replace("\\|", "|") for cell in _PIPE.split(inner)]


MARKDOWN = Format("markdown", "a Markdown table", _read)
