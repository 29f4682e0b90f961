"""JSON as text in, text out: numbers keep their digits, and values that are no text stay JSON."""

import json
from typing import Any

from cedkv.errors import DemoError


class Number(str):
    """A number as it was written: `2.50` stays `2.50`, and 4,400 digits stay themselves."""


def loads(text: str) -> Any:
    """A JSON document; its numbers are `Number`.

    Raises
    ------
    DemoError
        A key is given twice in one object, or it is nested too deeply.
    json.JSONDecodeError
        The text is no JSON.
    """
    try:
        return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=Number, object_pairs_hook=_object)
    except RecursionError as error:
        raise DemoError("the demonstrations are JSON nested too deeply; write a flat list of pairs") from error


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in items:
        if key in made:
            raise DemoError(f"the JSON gives the key {key[:60]!r} twice in one object; keep one of them")
        made[key] = value
    return made


def dumps(value: Any) -> str:
    """A value as JSON on one line, with numbers as they were written."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dumps(str(key))}: {dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dumps, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
