"""Pasted demonstrations of many shapes -> input/output pairs."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cedkv.errors import DemoError

_JSON = re.compile(r"\s*(?:\[\s*)?\{\s*\"")
_ARROW = re.compile(r"=>|->|→")
_QUESTION = re.compile(r"^[ \t]*(?:Q|Input)[ \t]*:", re.M | re.I)
_ANSWER = re.compile(r"^[ \t]*(?:A|Output)[ \t]*:", re.M | re.I)
_EMPTY = "the demonstrations are empty; paste lines such as 'lift -> lifted'"


@dataclass(frozen=True)
class Demonstration:
    """One input/output pair of the relation."""

    input: str
    output: str


def parse_demos(text: str) -> list[Demonstration]:
    """Read demonstrations in whichever format they were pasted.

    Understood are `input -> output`, `input => output`, tab-separated columns, `Q:`/`A:` blocks, CSV (with or
    without an `input,output` header), JSON and JSONL in function-vectors format.

    Raises
    ------
    DemoError
        Nothing was pasted, a line has only one side, or one input is given twice.
    """
    text = re.sub(r"\r\n?", "\n", text.removeprefix("\ufeff"))
    if not text.strip():
        raise DemoError(_EMPTY)
    for applies, read in _FORMATS:
        if applies(text):
            return _checked(read(text))
    raise DemoError(
        f"the first demonstration, {_first_line(text)!r}, has only one side; write 'input -> output' on each line"
    )


def _checked(pairs: list[tuple[int, str, str]]) -> list[Demonstration]:
    """Demonstrations from (line or item number, input, output)."""
    if not pairs:
        raise DemoError(_EMPTY)
    seen: dict[str, int] = {}
    for number, source, target in pairs:
        if not source or not target:
            side = "input" if not source else "output"
            raise DemoError(f"demonstration {number} ({source!r} -> {target!r}) has no {side}; give both sides")
        if source in seen:
            raise DemoError(
                f"demonstrations {seen[source]} and {number} have the same input {source!r}; keep one of them"
            )
        seen[source] = number
    return [Demonstration(source, target) for _, source, target in pairs]


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0][:60]


def _split_lines(text: str, split: Callable[[str], list[str]], form: str) -> list[tuple[int, str, str]]:
    pairs = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        parts = split(line)
        if len(parts) < 2:
            raise DemoError(f"line {number} of the demonstrations, {line[:60]!r}, has only one side; write {form!r}")
        pairs.append((number, parts[0].strip(), parts[1].strip()))
    return pairs


def _read_json(text: str) -> list[tuple[int, str, str]]:
    documents = [text] if text.lstrip().startswith("[") else text.split("\n")
    items: list[Any] = []
    for line, document in enumerate(documents):
        if document.strip():
            value = _loads(document, line)
            items += value if isinstance(value, list) else [value]
    pairs = []
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict) or not {"input", "output"} <= item.keys():
            raise DemoError(f'demonstration {number} of the JSON is not an object with "input" and "output"')
        pairs.append((number, _json_cell(item["input"]), _json_cell(item["output"])))
    return pairs


def _loads(document: str, lines_before: int) -> object:
    try:
        return json.loads(document)
    except json.JSONDecodeError as error:
        line = lines_before + error.lineno
        raise DemoError(f"the demonstrations look like JSON but are not: {error.msg} in line {line}") from error
    except RecursionError as error:
        raise DemoError("the demonstrations are JSON nested too deeply; write a flat list of pairs") from error


def _json_cell(value: object) -> str:
    """A side of a pair as text; of several answers the first, as in task files."""
    if isinstance(value, list):
        value = value[0] if value else None
    return "" if value is None else str(value).strip()


def _read_qa(text: str) -> list[tuple[int, str, str]]:
    before, *blocks = _QUESTION.split(text)
    if before.strip():
        raise DemoError(f"the demonstrations start with {_first_line(before)!r}, not with a 'Q:' line; remove it")
    pairs = []
    for number, block in enumerate(blocks, start=1):
        source, *answer = _ANSWER.split(block, maxsplit=1)
        if not answer:
            raise DemoError(f"block {number} of the demonstrations, {block.strip()[:60]!r}, has no 'A:' line")
        pairs.append((number, source.strip(), answer[0].strip()))
    return pairs


def _read_csv(text: str) -> list[tuple[int, str, str]]:
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DemoError(f"line {reader.line_num} of the CSV cannot be read: {error}") from error
    if rows and [cell.strip().lower() for cell in rows[0][1][:2]] == ["input", "output"]:
        rows = rows[1:]
    pairs = []
    for number, row in rows:
        if len(row) < 2:
            raise DemoError(f"line {number} of the CSV, {','.join(row)[:60]!r}, has only one column; give input,output")
        pairs.append((number, row[0].strip(), row[1].strip()))
    return pairs


# The first format whose test holds reads the text; each test looks for what only that format has.
_FORMATS: list[tuple[Callable[[str], object], Callable[[str], list[tuple[int, str, str]]]]] = [
    (_JSON.match, _read_json),
    (_QUESTION.search, _read_qa),
    (_ARROW.search, lambda text: _split_lines(text, lambda line: _ARROW.split(line, maxsplit=1), "input -> output")),
    (lambda text: text.lstrip().startswith(("[", "{")), _read_json),
    (lambda text: "\t" in text, lambda text: _split_lines(text, lambda line: line.split("\t"), "input<TAB>output")),
    (lambda text: "," in text, _read_csv),
]
