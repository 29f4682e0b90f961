"""Texts to train on: small word problems and sentences that state a relation, made by code, with a held-out split.

Each text is a prompt, in which names, places and numbers are anyone's guess, and a solution that follows from it: the
*important* tokens. What is held out is decided by the problem's numbers or the relation's input, so no solution that is
judged was ever trained on.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from cedkv.episodes import load_task

_NAMES = [
    "Ada",
    "Ben",
    "Cleo",
    "Dan",
    "Eva",
    "Finn",
    "Gia",
    "Hugo",
    "Ida",
    "Jon",
    "Kim",
    "Leo",
    "Mia",
    "Ned",
    "Ola",
    "Pia",
    "Rob",
    "Sue",
    "Tom",
    "Una",
    "Vic",
    "Wes",
    "Zoe",
]
_THINGS = ["apples", "books", "coins", "eggs", "pens", "shells", "stamps", "stones", "tickets", "toys"]
_PLACES = ["at the market", "in the garden", "by the river", "on the train", "after school", "near the old mill"]
_SENTENCES = {
    "present-past": "the past tense of {} is",
    "singular-plural": "the plural of {} is",
    "adjective-comparative": "the comparative of {} is",
    "verb-agent": "someone who can {} is called a",
    "swap-words": "turned around, {} becomes",
    "next-number-word": "after {} comes",
}
_HELD_OUT = 4  # one of so many problems and pairs
_LARGEST = 20


@dataclass(frozen=True)
class Text:
    """A prompt, its solution, and a wrong one of the same form."""

    kind: str
    prompt: str
    solution: str
    wrong: str


def make_texts(kinds: Sequence[str], count: int, seed: int, held_out: bool = False) -> list[Text]:
    """As many texts, the kinds by turns; none of those held out shares a solution with one that is not."""
    draw = random.Random(f"{seed} {held_out}")
    makers = [KINDS[kind] for kind in kinds]
    texts: dict[str, Text] = {}
    while len(texts) < count:
        text = makers[len(texts) % len(makers)](draw, held_out)
        texts.setdefault(text.prompt, text)
    return list(texts.values())


def _sum(draw: random.Random, held_out: bool) -> Text:
    """One step of addition or subtraction, in small numbers."""
    while True:
        first, second = draw.randint(2, _LARGEST), draw.randint(2, _LARGEST)
        gives = draw.random() < 0.5 and first > second
        sign = "-" if gives else "+"
        if _is_held_out(f"{first}{sign}{second}") == held_out:
            break
    name, thing, place = draw.choice(_NAMES), draw.choice(_THINGS), draw.choice(_PLACES)
    moves = f"gives away {second}" if gives else f"finds {second} more"
    result = first - second if gives else first + second
    off = result + draw.choice([step for step in (-3, -2, -1, 1, 2, 3) if result + step >= 0])
    prompt = f"{name} has {first} {thing} and {moves} {place}.\nHow many {thing}?"
    solution, wrong = (f" {first} {sign} {second} = {number}\n" for number in (result, off))
    return Text("sums", prompt, solution, wrong)


def _relation(draw: random.Random, held_out: bool) -> Text:
    """A pair of a shipped relation task in a sentence."""
    task = draw.choice(list(_SENTENCES))
    pairs = _pairs(task, held_out)
    given, output = draw.choice(pairs)
    other = draw.choice([pair[1] for pair in pairs if pair[1] != output])
    prompt = f"{draw.choice(_NAMES)} said {draw.choice(_PLACES)} that {_SENTENCES[task].format(given)}"
    return Text("relations", prompt, f" {output}.\n", f" {other}.\n")


@cache
def _pairs(task: str, held_out: bool) -> list[tuple[str, str]]:
    return [pair for pair in load_task(task).pairs if _is_held_out(f"{task} {pair[0]}") == held_out]


KINDS: dict[str, Callable[[random.Random, bool], Text]] = {"sums": _sum, "relations": _relation}


def _is_held_out(problem: str) -> bool:
    return hashlib.sha256(problem.encode()).digest()[0] % _HELD_OUT == 0


@dataclass(frozen=True)
class Tokens:
    """A text's token ids, and from which of them on it is the solution."""

    ids: tuple[int, ...]
    solution: int


def encode_text(encode: Callable[[str], list[int]], bos: Sequence[int], text: Text, wrong: bool = False) -> Tokens:
    """Prompt and solution, tokenised apart so that the border is a token's; `wrong` takes the wrong solution."""
    prompt = (*bos, *encode(text.prompt))
    return Tokens((*prompt, *encode(text.wrong if wrong else text.solution)), len(prompt))
