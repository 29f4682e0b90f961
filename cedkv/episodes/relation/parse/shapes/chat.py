"""Chats of one question and answer: OpenAI's `messages`, ShareGPT's `conversations`, or turns in a row."""

from collections.abc import Iterable
from typing import Any

from cedkv.episodes.relation.parse.fields import left_out
from cedkv.episodes.relation.parse.reading import Found, Outcome, Refusal, Strength, short
from cedkv.errors import DemoError

_ASKS, _ANSWERS, _TELLS = {"user", "human"}, {"assistant", "gpt", "model"}, {"system", "developer"}
_TURNS = ("messages", "conversations")
_OF_TURN = {"role", "from", "content", "value"}


def read(items: list[dict[str, Any]]) -> Outcome:
    if items and all(_role(item) is not None for item in items):
        return _turns_in_a_row(items)
    keys = {key for item in items for key in _TURNS if isinstance(item.get(key), list)}
    if len(keys) != 1 or not all(keys <= item.keys() for item in items):
        return None
    key = keys.pop()
    pairs, told = [], set()
    for number, item in enumerate(items, start=1):
        turns = [turn for turn in item[key] if isinstance(turn, dict)]
        roles = [_role(turn) for turn in turns]
        above = [_words(item["system"])] if item.get("system") else []
        told.add("\n".join(above + [_text(t) for t, role in zip(turns, roles, strict=True) if role in _TELLS]))
        said = [(role, _text(turn)) for turn, role in zip(turns, roles, strict=True) if role not in _TELLS]
        if len(turns) != len(item[key]) or len(said) != 2 or said[0][0] not in _ASKS or said[1][0] not in _ANSWERS:
            return Refusal(
                f"chat {number} is not one user's text and one assistant's answer; give a chat per demonstration",
                Strength.SURE,
            )
        pairs.append((number, said[0][1], said[1][1]))
    if len(told) > 1:
        return Refusal("the chats have different system texts; give demonstrations of one task", Strength.SURE)
    rest = _others(items, {key, "system"}) + _others((turn for item in items for turn in item[key]), _OF_TURN)
    return _found(pairs, told.pop(), rest)


def _turns_in_a_row(items: list[dict[str, Any]]) -> Outcome:
    about = "\n".join(_text(item) for item in items if _role(item) in _TELLS)
    said = [item for item in items if _role(item) not in _TELLS]
    asks, answers = said[::2], said[1::2]
    good = len(asks) == len(answers) and all(
        _role(a) in _ASKS and _role(b) in _ANSWERS for a, b in zip(asks, answers, strict=True)
    )
    if not good:
        return Refusal(
            "the chat's turns are not user and assistant in turn; give each question its answer", Strength.SURE
        )
    pairs = [(n, _text(a), _text(b)) for n, (a, b) in enumerate(zip(asks, answers, strict=True), start=1)]
    return _found(pairs, about, _others(items, _OF_TURN))


def _found(pairs: list[tuple[int, str, str]], about: str, rest: list[str]) -> Found:
    warnings = (f"the chat's system text is no part of the demonstrations: {about[:60]!r}",) if about else ()
    return Found(pairs, Strength.SURE, " chats", about, warnings + left_out(rest, ()))


def _others(items: Iterable[dict[str, Any]], known: set[str]) -> list[str]:
    """Keys that are not read."""
    return list(dict.fromkeys(key for item in items for key in item if key not in known))


def _role(turn: dict[str, Any]) -> str | None:
    role = turn.get("role", turn.get("from"))
    return role.casefold() if isinstance(role, str) and ("content" in turn or "value" in turn) else None


def _text(turn: dict[str, Any]) -> str:
    return _words(turn.get("content", turn.get("value")))


def _words(content: Any) -> str:
    """A text, also one given in parts.

    Raises
    ------
    DemoError
        Something of it is no text.
    """
    parts = content if isinstance(content, list) else [content]
    texts: list[Any] = [
        part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part for part in parts
    ]
    if (bad := next((part for part in texts if not isinstance(part, str)), "")) != "":
        raise DemoError(f"a turn of a chat holds {short(str(bad))}, which is no text; give chats of text alone")
    return "\n".join(texts).strip()
