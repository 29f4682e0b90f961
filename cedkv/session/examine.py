"""Demonstrations one by one: does the teacher get each right, what does each do for the others, and what their order.

Everything is leave-one-out: a demonstration is asked behind the others, as a query that they have not seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

import torch

from cedkv.config import Config
from cedkv.episodes import Demonstration, make_query, template_for, tokenize_demos
from cedkv.errors import CedKVError
from cedkv.lm import LanguageModel, iter_log_probs
from cedkv.metrics import first_token_correct

_MOST = 40
# Of so many demonstrations it is read what becomes of them without another one; more cost in proportion.
_ASKED = 6
_SHUFFLES = 2
# Below the others' middle by this many nats per token, and by this many times their usual distance from it.
_OUTLIER_NATS, _OUTLIER_SPREADS = 2.0, 4.0


@dataclass(frozen=True)
class Row:
    """One demonstration behind the others.

    right : whether its whole output is what the model says there. log_prob : of its output, mean over tokens, nats.
    outlier : whether its output is far more of a surprise than those of the others are.
    influence : how much likelier it makes outputs of the others, mean over their tokens, nats; None when not known.
    """

    right: bool
    log_prob: float
    outlier: bool = False
    influence: float | None = None


@dataclass(frozen=True)
class Order:
    """The demonstrations in another order: their places in the present one, and the mean log p of outputs, nats."""

    name: str
    places: tuple[int, ...]
    log_prob: float


@dataclass(frozen=True)
class Examination:
    """What is known so far of demonstrations; `orders` begin with the present one."""

    demos: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    orders: tuple[Order, ...] = ()
    done: bool = False


def iter_examine(lm: LanguageModel, config: Config, demos: Sequence[tuple[str, str]]) -> Iterator[Examination]:
    """Examine demonstrations: each behind the others, then each one's influence, then their orders.

    Raises
    ------
    CedKVError
        They are fewer than three, or too many to be read so often.
    """
    if not 3 <= len(demos) <= _MOST:
        raise CedKVError(f"{len(demos)} demonstrations: from 3 to {_MOST} can be examined; give more, or fewer")
    reader = _Reader(lm, config, demos)
    every = range(len(demos))
    alone = [reader.read(target, [other for other in every if other != target]) for target in every]
    found = Examination(tuple(demos), _marked(alone))
    yield found
    asked = list(every)[:: -(-len(demos) // _ASKED)]
    gains: dict[int, list[float]] = {place: [] for place in every}
    for target in asked:
        for place in every:
            if place != target:
                left = [other for other in every if other not in (target, place)]
                gains[place].append(alone[target].log_prob - reader.read(target, left).log_prob)
        rows = zip(found.rows, gains.values(), strict=True)
        found = replace(found, rows=tuple(replace(row, influence=fmean(gain) if gain else None) for row, gain in rows))
        yield found
    for name, places in _orders(len(demos), config.run.seed):
        read = [reader.read(target, [place for place in places if place != target]) for target in asked]
        order = Order(name, places, fmean(row.log_prob for row in read))
        found = replace(found, orders=(*found.orders, order))
        yield found
    yield replace(found, done=True)


class _Reader:
    """Reads demonstrations behind others, in any order."""

    def __init__(self, lm: LanguageModel, config: Config, demos: Sequence[tuple[str, str]]) -> None:
        self.lm, self.demos = lm, [Demonstration(*demo) for demo in demos]
        self.template = template_for(lm, config.episode.template).fitted(lm, self.demos)

    def read(self, target: int, context: Sequence[int]) -> Row:
        """A demonstration's output where the demonstrations of `context` come before its input."""
        demo = self.demos[target]
        query = make_query(self.lm, self.template, demo.input, demo.output)
        block = tokenize_demos(self.lm, [self.demos[place] for place in context], self.template)
        # What the tokenizer puts before every text comes anew with the forward.
        text = [*block.ids[len(self.lm.bos) :], *query.ids, *query.answer_ids[:-1]]
        if len(text) >= self.lm.context:
            raise CedKVError(f"the demonstrations have {len(text)} tokens, {self.lm.id} takes {self.lm.context}")
        ((_, rows),) = iter_log_probs(self.lm, [text], None, [len(query.answer_ids)])
        gold = torch.tensor(query.answer_ids, device=rows.device)
        said = rows.gather(1, gold[:, None])
        return Row(bool(first_token_correct(rows, gold).all()), said.mean().item())


def _marked(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows with those marked whose outputs surprise far more than is usual among them."""
    middle = median(row.log_prob for row in rows)
    usual = median(abs(row.log_prob - middle) for row in rows)
    least = middle - max(_OUTLIER_NATS, _OUTLIER_SPREADS * usual)
    return tuple(replace(row, outlier=row.log_prob < least) for row in rows)


def _orders(count: int, seed: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "as they are", tuple(range(count))
    yield "backwards", tuple(reversed(range(count)))
    for number in range(1, _SHUFFLES + 1):
        generator = torch.Generator().manual_seed(seed + number)
        yield f"shuffled, {number}", tuple(torch.randperm(count, generator=generator).tolist())
