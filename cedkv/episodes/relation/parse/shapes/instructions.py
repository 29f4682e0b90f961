"""Alpaca's records: an `instruction`, an `input` that may be empty, and an `output`."""

from typing import Any

from cedkv.episodes.relation.parse.fields import left_out, sides
from cedkv.episodes.relation.parse.reading import Found, Outcome, Strength

_OUTPUTS = ("output", "response")


def read(items: list[dict[str, Any]]) -> Outcome:
    """One instruction for all is about the task; instructions of their own are part of each input."""
    names = list(dict.fromkeys(key for item in items for key in item))
    outputs = [key for key in _OUTPUTS if key in names]
    if len(outputs) != 1 or ("input" not in names and len(sides(names)[0]) > 1):
        return None
    output = outputs[0]
    texts: list[tuple[Any, Any, Any]] = [
        (item.get("instruction"), item.get("input", ""), item.get(output)) for item in items
    ]
    if not all(isinstance(text, str) for row in texts for text in row):
        return None
    warnings = left_out(names, [i for i, name in enumerate(names) if name in {"instruction", "input", output}])
    told = {instruction.strip() for instruction, _, _ in texts}
    if len(told) == 1 and len(items) > 1 and all(source.strip() for _, source, _ in texts):
        about = told.pop()
        pairs = [(n, source.strip(), target.strip()) for n, (_, source, target) in enumerate(texts, start=1)]
        warning = f"the instruction is no part of the demonstrations: {about[:60]!r}"
        return Found(pairs, Strength.SURE, ", Alpaca records", about, (warning, *warnings))
    pairs = [
        (number, f"{instruction.strip()}\n{source.strip()}".strip(), target.strip())
        for number, (instruction, source, target) in enumerate(texts, start=1)
    ]
    return Found(pairs, Strength.SURE, ", Alpaca records, each instruction above its input", warnings=warnings)
