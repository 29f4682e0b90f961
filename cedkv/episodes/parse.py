"""Pasted demonstrations of many shapes -> input/output pairs."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from cedkv.errors import DemoError

_ARROW = re.compile(r"\s*(?:=>|->|→)\s*")
_QA = re.compile(
    r"^\s*(?:Q|Input)\s*:\s*(?P<input>.*?)\s*^\s*(?:A|Output)\s*:\s*(?P<output>.*?)\s*$", re.M | re.S | re.I
)


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
    if not text.strip():
        raise DemoError("the demonstrations are empty; paste lines such as 'lift -> lifted'")
    for applies, read in _FORMATS:
        if applies(text):
            return _checked(read(text))
    raise DemoError(
        f"line 1 of the demonstrations, {_first_line(text)!r}, has only one side; write 'input -> output' on each line"
    )


def _checked(pairs: list[tuple[int, str, str]]) -> list[Demonstration]:
    """Demonstrations from (line or item number, input, output)."""
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
    return text.strip().splitlines()[0][:60]


def _split_lines(text: str, split: Callable[[str], list[str]], form: str) -> list[tuple[int, str, str]]:
    pairs = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        parts = split(line)
        if len(parts) < 2:
            raise DemoError(f"line {number} of the demonstrations, {line[:60]!r}, has only one side; write {form!r}")
        pairs.append((number, parts[0].strip(), parts[1].strip()))
    return pairs


def _read_json(text: str) -> list[tuple[int, str, str]]:
    try:
        items = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(line) for line in text.splitlines() if line.strip()]
        )
    except json.JSONDecodeError as error:
        raise DemoError(f"the demonstrations look like JSON but are not: {error.msg} in line {error.lineno}") from error
    pairs = []
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict) or not {"input", "output"} <= item.keys():
            raise DemoError(f'demonstration {number} of the JSON is not an object with "input" and "output"')
        pairs.append((number, str(item["input"]).strip(), str(item["output"]).strip()))
    return pairs


def _read_qa(text: str) -> list[tuple[int, str, str]]:
    blocks = re.split(r"^(?=\s*(?:Q|Input)\s*:)", text, flags=re.M | re.I)
    pairs = []
    for number, block in enumerate((b for b in blocks if b.strip()), start=1):
        match = _QA.match(block)
        if match is None:
            raise DemoError(f"block {number} of the demonstrations, {_first_line(block)!r}, has no 'A:' line")
        pairs.append((number, match["input"], match["output"]))
    return pairs


def _read_csv(text: str) -> list[tuple[int, str, str]]:
    rows = list(enumerate(csv.reader(io.StringIO(text), skipinitialspace=True), start=1))
    if [cell.strip().lower() for cell in rows[0][1][:2]] == ["input", "output"]:
        rows = rows[1:]
    pairs = []
    for number, row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < 2:
            raise DemoError(f"line {number} of the CSV, {','.join(row)[:60]!r}, has only one column; give input,output")
        pairs.append((number, row[0].strip(), row[1].strip()))
    return pairs


# The first format whose test holds reads the text; each test looks for what only that format has.
_FORMATS: list[tuple[Callable[[str], object], Callable[[str], list[tuple[int, str, str]]]]] = [
    (lambda text: text.lstrip().startswith(("[", "{")), _read_json),
    (lambda text: re.search(r"^\s*(?:Q|Input)\s*:", text, re.M | re.I), _read_qa),
    (_ARROW.search, lambda text: _split_lines(text, lambda line: _ARROW.split(line, maxsplit=1), "input -> output")),
    (lambda text: "\t" in text, lambda text: _split_lines(text, lambda line: line.split("\t"), "input<TAB>output")),
    (lambda text: "," in text, _read_csv),
]
