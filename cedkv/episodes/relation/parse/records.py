"""Pairs from objects, lists and mappings, as JSON and YAML give them."""

from collections.abc import Callable
from typing import Any

from cedkv.episodes.relation.parse.fields import label_side, left_out, named_sides, normal, unclear
from cedkv.episodes.relation.parse.json_text import dumps
from cedkv.episodes.relation.parse.reading import Found, Outcome, Refusal, Strength
from cedkv.episodes.relation.parse.shapes import bigbench, chat, instructions, promptfoo
from cedkv.errors import DemoError

# What to make of a list of several values in the place of a side.
FIRST, WHOLE = "first", "whole"
# Shapes with keys of their own, before records with an input and an output. Each gives None for other records.
_SHAPES: list[Callable[[list[dict[str, Any]]], Outcome]] = [
    chat.read, promptfoo.read, bigbench.read, instructions.read,
]  # fmt: skip
_EXAMPLES, _WRONG = "positive examples", "negative examples"
_NOT_EXAMPLES = {_WRONG, "instances"}


def pairs_of(value: Any, lists: str | None = None) -> Outcome:
    """The pairs that a document holds. `lists` says what of a list of several values is a side: FIRST or WHOLE."""
    try:
        return _of_list(value, lists) if isinstance(value, list) else _of_object(value, lists)
    except DemoError as error:
        return Refusal(str(error), Strength.SURE)


def _of_list(items: list[Any], lists: str | None) -> Outcome:
    if all(isinstance(item, dict) for item in items):
        return _of_records(items, lists)
    if items and all(isinstance(item, list) and len(item) == 2 for item in items):
        return _of_twos(items, lists)
    number, item = next((n, i) for n, i in enumerate(items, 1) if not isinstance(i, dict))
    return Refusal(
        f'demonstration {number} of the list, {dumps(item)[:60]}, is not an object with "input" and "output"',
        Strength.SURE,
    )


def _of_object(value: Any, lists: str | None) -> Outcome:
    if not isinstance(value, dict):
        return None
    inner = {key: item for key, item in value.items() if _is_records(item)}
    if "messages" in value or "conversations" in value or "vars" in value:
        return _of_records([value], lists)
    others = [key for key in inner if normal(key) in _NOT_EXAMPLES]
    if len(others) < len(inner) or any(normal(key) in {_EXAMPLES, _WRONG} for key in value):
        inner = {key: item for key, item in inner.items() if key not in others}
        if others and not inner:
            names = " and ".join(map(repr, others))
            return Refusal(f"{names} are not the demonstrations; give 'Positive Examples'", Strength.SURE)
    if len(inner) > 1:
        names = " and ".join(repr(key[:30]) for key in list(inner)[:4])
        return Refusal(f"{names} could each be the demonstrations; give one of them alone", Strength.SURE)
    if inner:
        return _unwrapped(value, *next(iter(inner.items())), lists)
    # A saved DSPy program keeps them with each of its steps.
    steps = [item for item in value.values() if isinstance(item, dict) and _is_records(item.get("demos"))]
    if len(steps) == 1:
        return _unwrapped(steps[0], "demos", steps[0]["demos"], lists)
    keys, values = list(value), list(value.values())
    if named_sides(keys) and all(isinstance(item, list) for item in values):
        if len({len(item) for item in values}) > 1:
            return Refusal(
                "the columns of the object have different lengths; give each input its output", Strength.SURE
            )
        return _of_records([dict(zip(keys, row, strict=True)) for row in zip(*values, strict=True)], lists)
    if named_sides(keys) or "target_scores" in value:
        return _of_records([value], lists)
    if all(not isinstance(item, dict | list) for item in values):
        return _of_mapping(value)
    return Refusal(
        f"of the object with {dumps(keys)[:80]} it is not clear what the demonstrations are; give a list of pairs",
        Strength.SURE,
    )


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _unwrapped(value: dict[str, Any], key: str, items: list[Any], lists: str | None) -> Outcome:
    """Demonstrations under a key, with what is told about them beside it."""
    # BIG-bench and natural-instructions list every answer that is right; the first one counts.
    documented = "name" in value or "description" in value or normal(key) == _EXAMPLES
    found = _of_list(items, FIRST if documented and lists is None else lists)
    if not isinstance(found, Found):
        return found
    told = next((value[k] for k in value if normal(k) in {"definition", "description", "instruction"}), "")
    told = " ".join(map(str, told)) if isinstance(told, list) else told
    about = told.strip() if isinstance(told, str) else ""
    return Found(found.pairs, found.strength, f"{found.detail} under {key!r}", found.about or about, found.warnings)


def _of_records(items: list[dict[str, Any]], lists: str | None) -> Outcome:
    items = [item["row"] if isinstance(item.get("row"), dict) else item for item in items]
    for read in _SHAPES:
        if (outcome := read(items)) is not None:
            return outcome
    if items and all(len(item) == 1 and label_side(normal(next(iter(item)))) is None for item in items):
        return _of_mapping_items([next(iter(item.items())) for item in items])
    pairs: list[tuple[int, str, str]] = []
    warnings: tuple[str, ...] = ()
    used: tuple[str, str] | None = None
    for number, item in enumerate(items, start=1):
        names = list(item)
        named = named_sides(names) or _short_sides(names)
        if named is None:
            reason = unclear(names) if names else "it is empty"
            what = f'demonstration {number} of the list is not an object with "input" and "output"'
            return Refusal(f"{what}: {reason}", Strength.SURE)
        keys = names[named[0]], names[named[1]]
        if used is not None and used != keys:
            return Refusal(
                f"demonstrations 1 and {number} of the list have different keys ({', '.join(used)} and "
                f"{', '.join(keys)}); "
                "name all sides 'input' and 'output'",
                Strength.SURE,
            )
        used = keys
        warnings += tuple(warning for warning in left_out(names, named) if warning not in warnings)[:1]
        source, more_in = _side(number, "input", item[keys[0]], lists)
        target, more_out = _side(number, "output", item[keys[1]], lists)
        pairs.append((number, source, target))
        warnings += tuple(w for w in more_in + more_out if w not in warnings)
    detail = f", input from {used[0]!r}, output from {used[1]!r}" if used else ""
    return Found(pairs, Strength.SURE, detail, warnings=warnings)


def _short_sides(names: list[str]) -> tuple[int, int] | None:
    """`q` and `a`, `x` and `y` where there is nothing else."""
    found = [label_side(normal(name)) for name in names]
    return (found.index("input"), found.index("output")) if sorted(map(str, found)) == ["input", "output"] else None


def _side(number: int, side: str, value: Any, lists: str | None) -> tuple[str, tuple[str, ...]]:
    """A side as text. What is no text stays JSON."""
    if isinstance(value, list) and len(value) < 2:
        value = value[0] if value else None
    if isinstance(value, list) and lists != WHOLE:
        if lists is None:
            raise DemoError(
                f"the {side} of demonstration {number}, {dumps(value)[:60]}, could be several right values or one "
                "list; "
                "choose the format json-first or json-lists"
            )
        return _side(number, side, value[0], lists)[0], (f"of several {side}s the first one counts",)
    if value is None:
        return "", ()
    return (value if isinstance(value, str) else dumps(value)).strip(), ()


def _of_twos(items: list[list[Any]], lists: str | None) -> Outcome:
    warnings: tuple[str, ...] = ()
    if len(items) > 1 and all(isinstance(cell, str) for cell in items[0]) and named_sides(items[0]) == (0, 1):
        warnings, items = (f"the first pair names the sides, left out: {dumps(items[0])}",), items[1:]
    pairs = [
        (n, _side(n, "input", item[0], lists)[0], _side(n, "output", item[1], lists)[0])
        for n, item in enumerate(items, 1)
    ]
    return Found(pairs, Strength.SURE, " pairs", warnings=warnings)


def _of_mapping(value: dict[str, Any]) -> Outcome:
    if len(value) == 2 and all(len(key) == 2 and key.islower() for key in value):
        return Refusal(
            f"the object with {dumps(list(value))} could be one pair or two; write a list of pairs", Strength.SURE
        )
    return _of_mapping_items(list(value.items()))


def _of_mapping_items(items: list[tuple[str, Any]]) -> Outcome:
    pairs = [(n, key.strip(), _side(n, "output", value, None)[0]) for n, (key, value) in enumerate(items, start=1)]
    return Found(pairs, Strength.SURE, ", from each key to its value")
