"""Columns: comma, semicolon, tab or pipe between cells, with or without a first line of names."""

import csv
import io
import re
from collections.abc import Sequence
from functools import partial

from cedkv.episodes.relation.parse.fields import is_heading, left_out, named_sides, sides, unclear
from cedkv.episodes.relation.parse.lines import arrows_in
from cedkv.episodes.relation.parse.reading import Format, Found, Outcome, Refusal, Strength
from cedkv.episodes.relation.parse.rows import balanced, masked, numbering, without_comments, without_labels

_NAMES = {"csv": ",", "semicolon": ";", "tsv": "\t", "pipe": "|"}
_LABELS = {",": "comma-separated", ";": "semicolon-separated", "\t": "tab-separated", "|": "pipe-separated"}
Row = tuple[int, list[str]]


def _read(delimiter: str, name: str, header: bool | None, text: str) -> Outcome:
    """`header` None finds out whether the first line holds names."""
    label = _LABELS[delimiter]
    if not any(delimiter in line for line in text.split("\n")):
        return None
    rows = _rows(text, delimiter)
    if isinstance(rows, Refusal) or not any(len(row) > 1 for _, row in rows):
        return rows if isinstance(rows, Refusal) else None
    rows, warnings = _without_comments(rows)
    if delimiter == "\t" and (literal := dict(_literal_rows(text, delimiter) or [])):
        quoted = any(row != literal.get(number, row) for number, row in rows)
        warnings += ("quotes around cells are taken off",) if quoted else ()
    width = len(rows[0][1])
    if any(all(re.fullmatch(r":?-+:?", cell) for cell in cells) for _, cells in rows):
        return None
    if (bad := next((row for row in rows if len(row[1]) != width or width < 2), None)) is not None:
        return _ragged(rows, bad, delimiter)
    first, rest = rows[0][1], rows[1:]
    named = named_sides(first) if header is not False else None
    if header is None and not named and rest and (doubt := _doubt(rows, name, _strength(rows, delimiter, text))):
        return doubt
    if named is None and header and width == 2:
        named = (0, 1)
    if named or header:
        if named is None:
            return Refusal(f"the first line of the {label} columns: {unclear(first)}", Strength.SURE)
        detail = f", input from {first[named[0]]!r}, output from {first[named[1]]!r}"
        warnings += left_out(first, named)
        pairs = [(number, row[named[0]], row[named[1]]) for number, row in rest]
        return Found(pairs, Strength.SURE, detail, warnings=warnings)
    return _without_names(rows, delimiter, _strength(rows, delimiter, text), warnings)


def _rows(text: str, delimiter: str) -> list[Row] | Refusal:
    """Rows that hold something, with their first lines' numbers; quotes as in CSV or, where that fails, as text."""
    literal = _literal_rows(text, delimiter)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows, start = [], 1
    try:
        for cells in reader:
            rows.append((start, [cell.strip() for cell in cells]))
            start = reader.line_num + 1
    except csv.Error as error:
        if literal and (delimiter == "\t" or not re.search(r'(^|[,;|])[ \t]*"|"[ \t]*($|[,;|])', text, re.M)):
            return literal
        return Refusal(
            f"line {start} of the {_LABELS[delimiter]} columns cannot be read: {error}; close the quotes and double "
            "those inside a cell",
            Strength.LIKELY if literal else Strength.PARTIAL,
        )
    rows = [(number, cells) for number, cells in rows if any(cells)]
    if literal and len(rows) != len(literal):
        return Refusal(
            f"the {_LABELS[delimiter]} columns could hold line ends inside quotes ({len(rows)} rows) or quote marks as "
            f"text ({len(literal)} rows); double each quote mark that is text",
            Strength.LIKELY,
        )
    return _trimmed(rows)


def _literal_rows(text: str, delimiter: str) -> list[Row] | None:
    """Rows where quotes are text, if every line then has the same columns."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    rows = _trimmed([(number, [cell.strip() for cell in line.split(delimiter)]) for number, line in lines])
    same = len({len(cells) for _, cells in rows}) == 1 and len(rows[0][1]) > 1
    return rows if same and all(all(cells[:2]) for _, cells in rows) else None


def _trimmed(rows: list[Row]) -> list[Row]:
    """Rows without the empty columns that all of them have at the edges, as `| a | b |` and spreadsheets leave them."""
    empty = min((_empty_at(cells[::-1]) for _, cells in rows), default=0)
    rows = [(number, cells[: len(cells) - empty]) for number, cells in rows]
    empty = min((_empty_at(cells) for _, cells in rows), default=0)
    return [(number, cells[empty:]) for number, cells in rows]


def _empty_at(cells: Sequence[str]) -> int:
    """How many empty cells come first, where two are left without them."""
    filled = next((i for i, cell in enumerate(cells) if cell), len(cells))
    return max(0, min(filled, len(cells) - 2))


def _without_comments(rows: list[Row]) -> tuple[list[Row], tuple[str, ...]]:
    if named_sides(rows[0][1]):
        return rows, ()
    width = max(len(cells) for _, cells in rows)
    cells_of = dict(rows)
    firsts = [(number, ", ".join(cells)) for number, cells in rows]
    wide = {text for (number, text) in firsts if len(cells_of[number]) == width}
    kept, warnings = without_comments(firsts, wide.__contains__)
    return [(number, cells_of[number]) for number, _ in kept], warnings


def _ragged(rows: list[Row], bad: Row, delimiter: str) -> Refusal | None:
    width, label = len(rows[0][1]), _LABELS[delimiter]
    number, cells = bad
    if delimiter == "\t":
        strength = Strength.MOSTLY if 2 * sum(len(row) > 1 for _, row in rows) >= len(rows) else Strength.PARTIAL
    else:
        strength = Strength.PARTIAL
    shown = delimiter.join(cells)[:60]
    if len(cells) == 1:
        message = f"line {number} of the {label} columns, {shown!r}, has only one column; give an input and an output"
    else:
        message = (
            f"line {number} of the {label} columns, {shown!r}, has {len(cells)} of them where line {rows[0][0]} has "
            f"{width}; quote a cell that holds the separator"
        )
    return Refusal(message, strength)


def _doubt(rows: list[Row], name: str, strength: Strength) -> Refusal | None:
    """Where the first line could be names or data."""
    first, rest = rows[0][1], rows[1:]
    headings = [is_heading(cell) for cell in first]
    known = any(sides(first))
    capitals = len(first) == 2 and all(c[:1].isupper() for c in first) and all(
        c[:1].islower() or c[:1].isdigit() for _, row in rest for c in row
    )  # fmt: skip
    if not capitals and not (all(headings) or (known and len(first) > 2)) and not _one_known(first, rest):
        return None
    if len(first) > 2:
        return Refusal(f"the first line of the {_LABELS[_NAMES[name]]} columns: {unclear(first)}", strength)
    return Refusal(
        f"the first line, {first[0]!r} and {first[1]!r}, could be the columns' names or a demonstration; choose the "
        f"format {name}-header or {name}-data",
        strength,
    )


def _one_known(first: Sequence[str], rest: Sequence[Row]) -> bool:
    """Whether one of two cells is a usual name, and its column holds longer or repeated data."""
    inputs, outputs = sides(first)
    if inputs[:1] == [0]:
        return any(" " in row[0] for _, row in rest)
    repeated = len({row[1] for _, row in rest}) < len(rest) and all(row[1] != first[1] for _, row in rest)
    return outputs[:1] == [1] and (repeated or len(rest) < 2)


def _without_names(rows: list[Row], delimiter: str, strength: Strength, warnings: tuple[str, ...]) -> Outcome:
    columns = list(range(len(rows[0][1])))
    if len(columns) == 3 and len(rows) > 1:
        for column in (0, 2):
            if [row[column] for _, row in rows] in ([str(i + start) for i in range(len(rows))] for start in (0, 1)):
                warnings += (f"column {column + 1} counts the lines, left out",)
                columns.remove(column)
                break
    if all(any(arrow and arrow[0][0] == cell for cell in row if (arrow := arrows_in(cell))) for _, row in rows):
        return None
    if len(columns) > 2:
        first = ", ".join(repr(cell[:30]) for cell in rows[0][1][:6])
        return Refusal(
            f"the {_LABELS[delimiter]} text has {len(columns)} columns and no names that say which are input and "
            f"output: its first line is {first}; name two of the columns there 'input' and 'output' (or, as usual, "
            "'source' and 'target', 'question' and 'answer', 'text' and 'label')",
            strength if strength > Strength.FAINT else Strength.PARTIAL,
        )
    if delimiter in ",;" and any(balanced(delimiter.join(row)) and not all(map(balanced, row)) for _, row in rows):
        return None
    skips, told = numbering([row[columns[0]] for _, row in rows])
    sources = [row[columns[0]][skip:] for (_, row), skip in zip(rows, skips, strict=True)]
    sources, targets, more = without_labels(sources, [row[columns[1]] for _, row in rows])
    pairs, warnings = list(zip((number for number, _ in rows), sources, targets, strict=True)), warnings + told + more
    if all(source.endswith((":", "：")) for _, source, _ in pairs) or any(
        _at_edge(cell) for p in pairs for cell in p[1:]
    ):
        return None
    return Found(pairs, strength, warnings=warnings)


def _at_edge(cell: str) -> bool:
    """Whether an arrow stands where the cell ends: then the arrow is the separator."""
    arrows = arrows_in(cell)
    return bool(arrows) and cell != arrows[0][0] and (arrows[0].start() == 0 or arrows[-1].end() == len(cell))


def _strength(rows: list[Row], delimiter: str, text: str) -> Strength:
    """Prose and code have commas too: they count less with a blank behind them, in numbers and across brackets."""
    cells = [cell for _, row in rows for cell in row]
    sources, targets = [row[0] for _, row in rows], [row[-1] for _, row in rows]
    if all(map(arrows_in, targets)) and not any(map(arrows_in, sources)):
        return Strength.FAINT
    if delimiter == "\t":
        return Strength.SURE
    decimal = delimiter == "," and all(a[-1:].isdigit() and b[:1].isdigit() for _, (a, b, *_) in rows)
    if decimal or (delimiter in ",;" and _loose(text, delimiter)) or not all(map(balanced, cells)):
        return Strength.FAINT
    return Strength.LIKELY


def _loose(text: str, delimiter: str) -> bool:
    """Whether a blank follows every separator, as in prose."""
    marks = [
        line[at + 1 : at + 2] for line in map(masked, text.split("\n")) for at, c in enumerate(line) if c == delimiter
    ]
    return bool(marks) and all(mark == " " for mark in marks)


COLUMNS = [
    Format(name + suffix, f"{_LABELS[delimiter]} columns", partial(_read, delimiter, name, header), header is not None)
    for suffix, header in (("", None), ("-header", True), ("-data", False))
    for name, delimiter in _NAMES.items()
]
