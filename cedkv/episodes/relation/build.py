"""Episodes of one relation: demonstrations, queries and OFF texts from a config or from pairs."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cedkv.config import Config, EpisodeSettings
from cedkv.episodes.episode import Episode, Query
from cedkv.episodes.off import NearFormat, OffText
from cedkv.episodes.relation.chat import check_conversation, template_for
from cedkv.episodes.relation.demo_file import read_demos
from cedkv.episodes.relation.foreign import foreign_stream
from cedkv.episodes.relation.made_up import generated_inputs
from cedkv.episodes.relation.parse import Demonstration, Reading
from cedkv.episodes.relation.parse.reading import short
from cedkv.episodes.relation.tasks import Task, load_task, load_task_file
from cedkv.episodes.relation.template import Template, answer_tokens, leading_blanks, tokenize_demos
from cedkv.errors import DemoError
from cedkv.lm import LanguageModel, check_room, generate, read_demo_kv
from cedkv.report import EpisodeBlock
from cedkv.state import DemoTokens

Pair = TypeVar("Pair")

DEFAULT_TASK = "present-past"
# What the demonstrations leave free of the model's context, for the query and its answer.
QUERY_ROOM = 128
# Tokens of an answer that the teacher gives in place of a label, at least.
_ANSWER_TOKENS = 8


@dataclass(frozen=True)
class RelationEpisode(Episode):
    """Demonstrations of one relation in a template, and queries that ask for it.

    `demos` and the inputs of both query sets never overlap. `on_train_source` is `held_out`, `pasted` or `generated`,
    also where `held_out` was asked and no pair was left; it ends in `+made_up` where the model added some.
    `reading` says how a file's demonstrations were read.
    """

    demos: tuple[Demonstration, ...]
    template: Template
    cut_outputs: int = 0
    reading: Reading | None = None

    @property
    def stop(self) -> str:
        return self.template.stop

    @property
    def opening(self) -> str:
        return self.template.opening

    @property
    def near(self) -> NearFormat:
        return NearFormat(self.template.text)

    def off_streams(self, split: str) -> dict[str, Iterator[OffText]]:
        own = [demo.input for demo in self.demos] + [query.input for query in (*self.on_train, *self.on_eval)]
        foreign = foreign_stream(split, self.seed, self.task, own, self.template)
        return {**super().off_streams(split), "foreign": foreign}

    def content(self) -> list[Any]:
        return [self.template.text, [[demo.input, demo.output] for demo in self.demos], *super().content()]

    def describe(self) -> EpisodeBlock:
        return {
            **super().describe(),
            "demos": len(self.demos),
            "template": self.template.name,
            "opening": self.opening,
            "stop": self.stop,
            "template_digest": self.template.digest,
        }


def make_query(lm: LanguageModel, template: Template, text: str, output: str = "") -> Query:
    """Tokenise a query and, where it is known, the answer that continues it."""
    question = template.query(text)
    answer = template.answer(output) if output else ""
    answer_ids = answer_tokens(lm, question, answer) if answer else []
    blanks = leading_blanks(lm, answer_ids)
    return Query(text, question, tuple(lm.encode(question)), answer, tuple(answer_ids), blanks)


def build_episode(
    lm: LanguageModel,
    demos: Sequence[Demonstration],
    held_out: Sequence[Demonstration],
    template: Template,
    *,
    task: str,
    seed: int,
    on_train: int,
    on_eval: int,
    on_source: str = "held_out",
    made_up: int = 0,
    pasted_inputs: Sequence[str] = (),
    test_pairs: Sequence[Demonstration] = (),
    reading: Reading | None = None,
) -> RelationEpisode:
    """Assemble an episode from demonstrations and labelled pairs that are not among them.

    test_pairs : labelled pairs to judge on, the first `on_eval` of them; without them some are drawn from `held_out`.

    Raises
    ------
    DemoError
        The demonstrations or a query behind them do not fit into the model's context, or there are too few queries.
    """
    check_conversation(lm, template, demos)
    template = template.fitted(lm, demos)
    tokens = _block_tokens(lm, demos, template)
    taken = {demo.input for demo in demos}
    pairs = _drawn(held_out, taken, seed)
    judged = _unseen(test_pairs, taken)[:on_eval] or pairs[:on_eval]
    taken |= {pair.input for pair in judged}
    spare = [pair.input for pair in pairs if pair.input not in taken]
    source = "generated" if on_source == "held_out" and not spare else on_source
    wanted = on_train + (0 if judged else on_eval)
    inputs = _training_inputs(lm, tokens, template, source, spare, pasted_inputs, taken, wanted, seed)
    _check_enough(inputs, 1 if judged else 2, source)
    if judged:
        evaluated = [_fitting_query(lm, tokens, template, pair.input, pair.output) for pair in judged]
    else:
        inputs, others = _trained_and_judged(inputs, on_train, on_eval)
        evaluated = _answered_by_teacher(lm, tokens, template, others)
    trained = inputs[:on_train]
    if made_up:
        exclude = {*taken, *trained, *(query.input for query in evaluated)}
        made = generated_inputs(lm, tokens, template, exclude, made_up, seed)
        trained, source = _mixed(trained, made, seed), f"{source}+made_up" if made else source
    return RelationEpisode(
        task=task,
        demos=tuple(demos),
        template=template,
        tokens=tokens,
        on_train=tuple(_fitting_query(lm, tokens, template, text) for text in trained),
        on_train_source=source,
        on_eval=tuple(evaluated),
        gold="labels" if judged else "teacher",
        seed=seed,
        reading=reading,
        cut_outputs=sum(template.cut(pair.output) != pair.output for pair in (*demos, *judged)),
    )


def _block_tokens(lm: LanguageModel, demos: Sequence[Demonstration], template: Template) -> DemoTokens:
    tokens = tokenize_demos(lm, list(demos), template)
    if len(tokens) + QUERY_ROOM > lm.context:
        raise DemoError(
            f"the {len(demos)} demonstrations have {len(tokens)} tokens, but {lm.id} takes {lm.context} including "
            f"{QUERY_ROOM} for the query; use fewer or shorter ones"
        )
    return tokens


def _drawn(held_out: Sequence[Demonstration], taken: set[str], seed: int) -> list[Demonstration]:
    """Pairs of other inputs than are taken, each input once, by lot."""
    pairs = list({pair.input: pair for pair in held_out if pair.input not in taken}.values())
    random.Random(seed).shuffle(pairs)
    return pairs


def _unseen(test_pairs: Sequence[Demonstration], taken: set[str]) -> list[Demonstration]:
    """Pairs to judge on, each input once."""
    pairs = list({pair.input: pair for pair in test_pairs if pair.input not in taken}.values())
    if test_pairs and not pairs:
        raise DemoError("every test pair is a demonstration too; give pairs that the model has not seen")
    return pairs


def _check_enough(inputs: list[str], least: int, source: str) -> None:
    if len(inputs) < least:
        raise DemoError(
            f"on_source {source!r} gives {len(inputs)} queries besides the demonstrations and evaluation inputs; give "
            "more pairs or inputs"
        )


def _training_inputs(
    lm: LanguageModel, tokens: DemoTokens, template: Template, source: str, spare: list[str], pasted: Sequence[str],
    taken: set[str], wanted: int, seed: int,
) -> list[str]:  # fmt: skip
    """Inputs to train on, and without labelled pairs to judge too, from the source that is asked for."""
    if source == "pasted":
        return [text for text in dict.fromkeys(map(str.strip, pasted)) if text and text not in taken]
    if source == "held_out":
        return spare
    return generated_inputs(lm, tokens, template, exclude=taken, count=wanted, seed=seed)


def _mixed(inputs: list[str], made: list[str], seed: int) -> list[str]:
    """Both kinds in one order: the warm start and the ticks read the first ones only, and should read both."""
    mixed = [*inputs, *made]
    random.Random(seed).shuffle(mixed)
    return mixed


def _trained_and_judged(inputs: list[str], on_train: int, on_eval: int) -> tuple[list[str], list[str]]:
    """Unlabelled inputs to train on and to judge, half of them each where they are few.

    Training takes the first: the same ones however many are judged, so that a state can be judged later on others.
    """
    enough = len(inputs) - on_train >= min(on_eval, len(inputs) // 4)
    trained = on_train if enough else len(inputs) - len(inputs) // 2
    return inputs[:trained], inputs[trained:][:on_eval]


def _answered_by_teacher(
    lm: LanguageModel, tokens: DemoTokens, template: Template, inputs: Sequence[str]
) -> list[Query]:
    """Queries without labels, with the teacher's own greedy answers as gold."""
    teacher = read_demo_kv(lm, tokens).as_prefix()
    ids = [_fitting_query(lm, tokens, template, text).ids for text in inputs]
    room = _answer_room(lm, tokens, template)
    answers = [answer.strip() for answer in generate(lm, ids, teacher, room, stop=template.stop)]
    answered = [(text, answer) for text, answer in zip(inputs, answers, strict=True) if answer]
    if not answered:
        raise DemoError("the model answers nothing after these demonstrations; give other demonstrations")
    return [make_query(lm, template, text, answer) for text, answer in answered]


def _answer_room(lm: LanguageModel, tokens: DemoTokens, template: Template) -> int:
    """Tokens of an answer like those that were demonstrated, with its end."""
    return max(_ANSWER_TOKENS, tokens.longest("output") + len(lm.encode(template.stop)))


def _fitting_query(lm: LanguageModel, tokens: DemoTokens, template: Template, text: str, output: str = "") -> Query:
    """A query that the model can read behind the demonstrations and answer."""
    query = make_query(lm, template, text, output)
    room = max(_answer_room(lm, tokens, template), len(query.answer_ids))
    check_room(lm, len(tokens) + len(query.ids), f"query {short(text)} behind the demonstrations", room)
    return query


def episode_from_config(lm: LanguageModel, config: Config) -> RelationEpisode:
    """The episode a config describes. Demos, ON-train and ON-eval are disjoint draws by seed.

    Raises
    ------
    DemoError
        A task, file or demonstration cannot be used.
    """
    settings, seed = config.episode, config.run.seed
    template = template_for(lm, settings.template)
    task, reading = read_source(settings)
    pairs = [Demonstration(*pair) for pair in task.pairs] if task else []
    if reading:
        demos = list(reading.pairs)
    else:
        demos, pairs = draw_demos(pairs, settings.demos, seed)
    return build_episode(
        lm,
        demos,
        pairs,
        template,
        task=task.name if task else Path(settings.demos_file or "").stem,
        seed=seed,
        on_train=settings.on_train,
        on_eval=config.phase2.eval.on_samples,
        on_source=settings.on_source,
        made_up=config.phase3.optim.made_up_queries,
        pasted_inputs=settings.pasted_inputs,
        test_pairs=[Demonstration(*pair) for pair in settings.test_pairs],
        reading=reading,
    )


def read_source(settings: EpisodeSettings) -> tuple[Task | None, Reading | None]:
    """The relation's pairs and the demonstrations of a file, as far as they are asked for. No model is needed.

    Raises
    ------
    DemoError
        A task or file is missing or cannot be read.
    """
    if settings.task_file:
        task: Task | None = load_task_file(settings.task_file)
    elif settings.demos_file and settings.task is None:
        task = None
    else:
        task = load_task(settings.task or DEFAULT_TASK)
    return task, read_demos(settings.demos_file, settings.demos_format) if settings.demos_file else None


def draw_demos(pairs: Sequence[Pair], count: int, seed: int) -> tuple[list[Pair], list[Pair]]:
    """A task's pairs by lot: the demonstrations, and the rest in the order in which they were drawn."""
    drawn = list(pairs)
    random.Random(seed).shuffle(drawn)
    return drawn[:count], drawn[count:]
