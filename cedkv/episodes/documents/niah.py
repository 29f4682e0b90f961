"""Needles in a haystack: numbers that a document tells in passing, and a question for one of them.

A passkey is the single needle. With `keys` there are several, each of a thing of its own, of which one is asked for;
with `values` the asked thing has several numbers; distractors are numbers that nobody asks for. As in RULER, values
have up to seven digits.

References
----------
Mohtashami and Jaggi 2023, Landmark attention (passkey); Hsieh et al. 2024, RULER.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cedkv.episodes.documents.prose import is_held_out, sentences
from cedkv.episodes.documents.question import Question
from cedkv.errors import ConfigError

# Wordings are split as prose is: a question that judges is worded as none that trained.
PASSKEYS = {
    "train": (
        "The pass key is {value}. Remember it.",
        "Remember this pass key: {value}.",
        "The secret number is {value}.",
        "Note that the code is {value}.",
        "The special magic number mentioned here is {value}.",
        "The pass key is {value}. {value} is the pass key.",
        "They told him that the number was {value}.",
    ),
    "eval": (
        "Here is the pass key: {value}. Keep it in mind.",
        "One must not forget that the pass key is {value}.",
        "The important pass key you will be asked for is {value}.",
        "By the way, {value} is the pass key.",
    ),
}
KEYED = {
    "train": (
        "The special number of the {key} is {value}.",
        "The number written on the {key} is {value}.",
        "Note that the {key} has the number {value}.",
    ),
    "eval": ("One of the special numbers of the {key} is {value}.", "By the way, the number of the {key} is {value}."),
}
DISTRACTORS = (
    "In the year {value} nothing of the kind was known.",
    "About {value} people have read this page.",
    "The old edition had {value} lines.",
)
THINGS = {
    "train": ("apple", "bridge", "candle", "drum", "engine", "forest", "garden", "hammer", "island", "jacket"),
    "eval": ("kettle", "ladder", "mirror", "needle", "orange", "pencil", "river", "saddle", "table", "window"),
}
# So many sentences that do not fit are tried before a document counts as full.
_MISSES = 100
_PASSKEY_NOTE, _KEYED_NOTE = "The pass key is {value}.", "The number of the {key} is {value}."


@dataclass(frozen=True)
class Needles:
    """What is hidden, and in how much.

    tokens : length of the document; it is filled with whole sentences up to about so many.
    depth : how much of the prose comes before the asked needle, 0 to 1; None draws it.
    """

    tokens: int = 128
    digits: tuple[int, ...] = (5, 6, 7)
    keys: int = 1
    values: int = 1
    distractors: int = 0
    depth: float | None = None


# By name: one number, one beside numbers that nobody asks for, that of one of three things, and two of one thing.
NEEDLES: dict[str, Needles] = {
    "passkey": Needles(),
    "distractors": Needles(distractors=2),
    "multi_key": Needles(keys=3),
    "multi_value": Needles(values=2),
}


def make_needles(
    needles: Needles, count: int, seed: int, split: str, encode: Callable[[str], list[int]]
) -> list[Question]:
    """As many questions; the same for a seed, and those of two splits share neither prose nor wording nor value.

    Raises
    ------
    ConfigError
        The needles do not fit into so many tokens.
    """
    return [make_one(needles, f"{seed} {number}", split, encode) for number in range(count)]


def make_one(needles: Needles, seed: str, split: str, encode: Callable[[str], list[int]]) -> Question:
    """One question; raises what `make_needles` raises."""
    draw = random.Random(f"{split} {needles} {seed}")
    keys = draw.sample(THINGS[split], needles.keys) if needles.keys > 1 else [""]
    values = [_value(draw, needles.digits, split) for _ in range(needles.values)]
    told = [_told(draw, keys[0], value, split) for value in values]
    others = [_told(draw, key, _value(draw, needles.digits, split), split) for key in keys[1:]]
    others += [draw.choice(DISTRACTORS).format(value=_number(draw, 4)) for _ in range(needles.distractors)]
    prose = _fill(draw, split, needles.tokens - sum(len(encode(f" {text}")) for text in [*told, *others]), encode)
    if prose is None:
        raise ConfigError(f"needles of {needles.tokens} tokens leave no room for prose; allow more tokens")
    depth = draw.random() if needles.depth is None else needles.depth
    context = _hidden(draw, prose, told, others, depth)
    note = (_KEYED_NOTE if keys[0] else _PASSKEY_NOTE).format(key=keys[0], value=values[0])
    asked = f"the number of the {keys[0]}" if keys[0] else "the pass key"
    question, answer_prefix = f"\n\nWhat is {asked}?", f" {asked[0].upper()}{asked[1:]} is"
    return Question(
        context,
        question=question,
        answer_prefix=answer_prefix + _blank_of_query(question + answer_prefix, values[0], encode),
        answers=tuple(values),
        max_new_tokens=2 + sum(len(value) + 2 for value in values),
        note=note,
        about={"kind": _kind(needles), "depth": depth, "tokens": needles.tokens, "split": split},
    )


def _blank_of_query(query: str, value: str, encode: Callable[[str], list[int]]) -> str:
    """The blank in front of the answer, where it is a token of its own: what is judged is the answer."""
    led = encode(f"{query} ")
    return " " if led != encode(query) and [*led, *encode(value)] == encode(f"{query} {value}") else ""


def _kind(needles: Needles) -> str:
    if needles.keys > 1:
        return "multi_key"
    if needles.values > 1:
        return "multi_value"
    return "distractors" if needles.distractors else "passkey"


def _hidden(draw: random.Random, prose: Sequence[str], told: list[str], others: list[str], depth: float) -> str:
    """The first asked needle at its depth, everything else anywhere."""
    place = round(depth * len(prose))
    parts = [*prose[:place], told[0], *prose[place:]]
    for text in [*told[1:], *others]:
        parts.insert(draw.randint(0, len(parts)), text)
    return " ".join(parts)


def _told(draw: random.Random, key: str, value: str, split: str) -> str:
    return draw.choice(KEYED[split] if key else PASSKEYS[split]).format(key=key, value=value)


def _number(draw: random.Random, digits: int) -> str:
    return str(draw.randrange(10 ** (digits - 1), 10**digits))


def _value(draw: random.Random, digits: Sequence[int], split: str) -> str:
    """A number of so many digits; some are kept for judging."""
    while True:
        value = _number(draw, draw.choice(list(digits)))
        if is_held_out(value) == (split == "eval"):
            return value


def _fill(draw: random.Random, split: str, room: int, encode: Callable[[str], list[int]]) -> list[str] | None:
    """Sentences in a random order that fit into the room, none twice before all have been; None where none fits."""
    known = sentences(split)
    prose: list[str] = []
    while True:
        before = len(prose)
        misses = 0
        for sentence in draw.sample(known, len(known)):
            tokens = len(encode(f" {sentence}"))
            if tokens <= room:
                prose.append(sentence)
                room -= tokens
            else:
                misses += 1
            if misses == _MISSES:
                return prose or None
        if len(prose) == before:
            return prose or None
