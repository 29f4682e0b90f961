"""Foreign relations: queries of other tasks, in the episode's own format and in another one.

They look like what the state is for and are not. Alone, only those that no demonstration and no query of the episode
could be taken for; behind examples of their own, those of any other task, for the examples tell which is meant.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from cedkv.episodes.off import OffText, length_class, split_of
from cedkv.episodes.relation.parse import Demonstration
from cedkv.episodes.relation.tasks import load_task, task_names
from cedkv.episodes.relation.template import TEMPLATES, Template, answer_tokens, get_template, leading_blanks
from cedkv.lm import LanguageModel

BUCKETS = ("same_format", "other_format", "same_format_shown", "other_format_shown")
# Examples in front of a query that is not alone.
_SHOWN = 3
# Answers that a question offers, and draws after which a stream or a task has nothing new to say.
_OFFERED = 4
_DRAWS = 200


@dataclass(frozen=True)
class Relation:
    """Another task's pairs: `asked` are those whose queries this split owns, `shown` may stand in front of them."""

    name: str
    asked: tuple[Demonstration, ...]
    shown: tuple[Demonstration, ...]


@dataclass(frozen=True)
class Question:
    """A query behind examples, up to its answer, and the first tokens of several answers; `right` is the right one's
    place among them."""

    task: str
    ids: tuple[int, ...]
    options: tuple[int, ...]
    right: int


def foreign_stream(split: str, seed: int, own: str, inputs: Sequence[str], template: Template) -> Iterator[OffText]:
    """Queries of other tasks, the buckets by turns, as long as there are new ones; two splits share no query.

    Parameters
    ----------
    own : name of the episode's task.
    inputs : of the episode's demonstrations and queries.
    """
    rng, relations = random.Random(f"foreign/{split}/{seed}"), _relations(split, own)
    apart = [relation for relation in relations if not {pair.input for pair in relation.asked}.intersection(inputs)]
    others, seen, stale = _other_templates(template), set[str](), 0
    for bucket in cycle(BUCKETS if apart else BUCKETS[2:]):
        relation = rng.choice(relations if bucket.endswith("shown") else apart)
        pair = rng.choice(relation.asked)
        written = template if bucket.startswith("same") else rng.choice(others)
        text = (_examples(relation, written, rng) if bucket.endswith("shown") else "") + written.query(pair.input)
        stale = stale + 1 if text in seen else 0
        if stale > _DRAWS:
            return
        if not stale:
            seen.add(text)
            yield OffText(text, bucket, length_class(text))


def foreign_questions(lm: LanguageModel, own: str, template: Template, count: int) -> list[Question]:
    """Multiple-choice questions out of other tasks, in another format, which a model can answer from the examples.

    Offered are answers of the same task that begin with different tokens. The same ones for every seed.
    """
    rng, written = random.Random("questions"), _other_templates(template)[0]
    drawn = islice(cycle(_relations("stress", own)), _DRAWS + count)
    asked = (_question(lm, relation, written, rng) for relation in drawn)
    return list(islice(filter(None, asked), count))


def _question(lm: LanguageModel, relation: Relation, template: Template, rng: random.Random) -> Question | None:
    """One question; None where too few answers of the task begin differently."""
    pair = rng.choice(relation.asked)
    text = _examples(relation, template, rng) + template.query(pair.input)
    blanks, gold = _opening(lm, text, template.answer(pair.output))
    answers = sorted({each.output for each in relation.shown} - {pair.output})
    openings = [_opening(lm, text, template.answer(answer)) for answer in rng.sample(answers, min(len(answers), 12))]
    wrong = list(dict.fromkeys(first for before, first in openings if before == blanks and first != gold))
    if len(wrong) < _OFFERED - 1:
        return None
    options = [gold, *wrong[: _OFFERED - 1]]
    rng.shuffle(options)
    return Question(relation.name, (*lm.encode(text), *blanks), tuple(options), options.index(gold))


def _opening(lm: LanguageModel, text: str, answer: str) -> tuple[tuple[int, ...], int]:
    """The white space in front of an answer, as tokens, and the first token after it."""
    ids = answer_tokens(lm, text, answer)
    blanks = leading_blanks(lm, ids)
    return tuple(ids[:blanks]), ids[blanks]


def _relations(split: str, own: str) -> list[Relation]:
    found = []
    for name in task_names():
        pairs = [Demonstration(*pair) for pair in load_task(name).pairs]
        asked = tuple(pair for pair in pairs if split_of(f"{name}/{pair.input}") == split)
        shown = tuple(pair for pair in pairs if split_of(f"{name}/{pair.input}") == "typical")
        if name != own and asked and len(shown) >= _SHOWN:
            found.append(Relation(name, asked, shown))
    return found


def _examples(relation: Relation, template: Template, rng: random.Random) -> str:
    shown = rng.sample(relation.shown, _SHOWN)
    return "".join(piece for demo in shown for _, piece in template.demo_pieces(demo))


def _other_templates(template: Template) -> list[Template]:
    return [get_template(name) for name, text in TEMPLATES.items() if text != template.text]
