"""What gists are trained on: documents with a needle, tokenised, and the note that stands for each."""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.config import GistConfig
from cedkv.episodes.documents import Needles, Question, make_one
from cedkv.errors import ConfigError
from cedkv.lm import LanguageModel
from cedkv.lm.gists import embedded_ids

_DIGITS = "0123456789"


@dataclass(frozen=True)
class Example:
    """A document, the query and answer behind it, and the note's tokens, which have the gists' places."""

    document: tuple[int, ...]
    query: tuple[int, ...]
    answer: tuple[int, ...]
    note: tuple[int, ...]


@dataclass(frozen=True)
class NotePlan:
    """Where a note's parts stand: its beginning, a value of any number of digits, its end, then blank lines.

    told : places up to the end of the longest note; a note has no more to tell behind them.
    """

    head: tuple[int, ...]
    tail: tuple[int, ...]
    blank: int
    digits: int
    gists: int

    @property
    def told(self) -> int:
        return len(self.head) + self.digits + len(self.tail)

    @property
    def begins(self) -> int:
        """The value's first place."""
        return len(self.head)

    def ids(self, value: list[int]) -> tuple[int, ...]:
        ids = [*self.head, *value, *self.tail]
        return (*ids, *[self.blank] * (self.gists - len(ids)))


def note_plan(lm: LanguageModel, config: GistConfig) -> NotePlan:
    """Where the parts of a training's note stand.

    Raises
    ------
    ConfigError
        The note does not name its value once, or there are too few gists for it.
    """
    head, value, tail = config.training.note.partition("{value}")
    if not value or "{" in head + tail:
        raise ConfigError(f"training.note = {config.training.note!r} must hold '{{value}}' once and no other braces")
    if not head:
        raise ConfigError("training.note begins with its value, where the attention sink stands; put a text before it")
    blank = lm.encode("\n")[-1]
    digits = max(config.training.digits)
    plan = NotePlan(tuple(lm.encode(head)), tuple(lm.encode(tail)), blank, digits, config.num_gist_tokens)
    if plan.told > plan.gists:
        raise ConfigError(
            f"num_gist_tokens = {plan.gists}: the note takes {plan.told} with {digits} digits; shorten training.note"
        )
    return plan


def first_rows(lm: LanguageModel, plan: NotePlan) -> Float[Tensor, "gists hidden"]:
    """What gist rows begin as: the note's tokens, with the mean of all digits where its value stands."""
    digits = [lm.encode(digit)[-1] for digit in _DIGITS]
    rows = embedded_ids(lm, plan.ids(digits[:1] * plan.digits)).clone()
    rows[plan.begins : plan.begins + plan.digits] = embedded_ids(lm, digits).mean(dim=0)
    return rows


def make_examples(lm: LanguageModel, config: GistConfig, plan: NotePlan, held_out: bool) -> list[Example]:
    """The documents of a training, or those that judge it on its way; the same for a seed."""
    training, seed = config.training, config.run.seed
    encode = cache(lm.encode)  # the same sentences are measured for every document
    split, count = ("eval", training.held_out) if held_out else ("train", training.documents)
    found = []
    for number in range(count):
        tokens = training.tokens[number % len(training.tokens)]
        needles = Needles(tokens=tokens, digits=training.digits)
        found.append(_example(lm, plan, make_one(needles, f"{seed} {number}", split, encode)))
    return found


def _example(lm: LanguageModel, plan: NotePlan, question: Question) -> Example:
    value, query = question.answers[0], lm.encode(question.query)
    blank = "" if question.query.endswith(" ") else " "
    return Example(
        document=(*lm.bos, *lm.encode(question.context)),
        query=tuple(query),
        answer=tuple(lm.encode(f"{question.query}{blank}{value}.")[len(query) :]),
        note=plan.ids(lm.encode(value)),
    )


def widest(examples: list[Example]) -> int:
    return max(len(example.document) for example in examples)


def padded_rows(rows: list[tuple[int, ...]], fill: int) -> Tensor:
    """Rows filled up on the right, `[rows, longest]`."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])
