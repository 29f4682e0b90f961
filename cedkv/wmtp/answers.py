"""Which tokens of an answer count: the scorers of token weights, for whatever is trained to give answers."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cedkv.errors import ConfigError
from cedkv.lm import LanguageModel
from cedkv.lm.hidden import hidden_states
from cedkv.optim.loop import LoopSettings, Training, run_training
from cedkv.optim.weights import Run, ScorerSettings, TokenBatch, find_scorer
from cedkv.optim.weights.base import IGNORED
from cedkv.wmtp.critic import CriticObjective

_KEYS = {"rho1": "rho1-excess-v1", "critic": "critic-delta-v1"}
# Soft, so that no token of an answer is left out altogether: there are few of them.
SOFT = ScorerSettings(selection="soft")
_CRITIC = LoopSettings(steps=100, tick_every=10)
_CRITIC_RATE = 0.02


def answer_scorer(name: str) -> Run | None:
    """What a setting's name weighs tokens with; None for `uniform`."""
    return None if name == "uniform" else find_scorer(_KEYS[name]).setup(SOFT)


@torch.no_grad()
def weigh_answers(
    run: Run,
    tokens: Sequence[Int[Tensor, " _answer"]],
    losses: Sequence[Float[Tensor, " _answer"]],
    reference: Sequence[Float[Tensor, " _answer"]],
    values: Sequence[Float[Tensor, " _places"]],
) -> Float[Tensor, " rows"]:
    """A weight for every answer token, one answer after the other, mean 1.

    Parameters
    ----------
    losses : of the tokens, nats, by what is trained; `reference` by what it learns from.
    values : a critic's before an answer's first token and after each; none where no scorer needs them.
    """
    batch = TokenBatch(
        _placed(tokens, IGNORED),
        _placed(losses, 0.0),
        _placed(reference, 0.0),
        pad_sequence(list(values), batch_first=True) if values else None,
    )
    return run(batch)["weights"][batch.valid]


def _placed(rows: Sequence[Real[Tensor, " _answer"]], fill: float) -> Real[Tensor, "answers places"]:
    """One row an answer, behind a place for the token before."""
    led = [torch.cat([torch.full_like(row[:1], fill), row]) for row in rows]
    return pad_sequence(led, batch_first=True, padding_value=fill)


def answer_values(
    lm: LanguageModel, ids: Sequence[tuple[int, ...]], answers: Sequence[int]
) -> list[Float[Tensor, " _places"]]:
    """A critic's value before every answer's first token and after each of its tokens.

    It learns from the queries with their own answers, and with each other's: no label is used.

    Parameters
    ----------
    ids : queries with their answers.
    answers : how many tokens at the end of each are its answer.

    Raises
    ------
    ConfigError
        All answers are the same: none is wrong anywhere.
    """
    split = [len(text) - told for text, told in zip(ids, answers, strict=True)]
    own = [text[at:] for text, at in zip(ids, split, strict=True)]
    if all(answer == own[0] for answer in own):
        raise ConfigError("token_weights: critic learns from answers that differ, and all are the same; use uniform")
    wrong = [text[:at] + _another(own, place) for place, (text, at) in enumerate(zip(ids, split, strict=True))]
    states = hidden_states(lm, ids)
    critic = CriticObjective.of_texts(states, hidden_states(lm, wrong), _CRITIC_RATE)
    training = Training(critic, _CRITIC)
    for _ in run_training(training):
        pass
    critic.load(training.best)
    return [critic.values(rows)[-(told + 1) :] for rows, told in zip(states, answers, strict=True)]


def _another(answers: Sequence[tuple[int, ...]], place: int) -> tuple[int, ...]:
    """The nearest answer before a place, going round, that is not its own."""
    return next(answer for answer in [*answers[:place][::-1], *answers[place:][::-1]] if answer != answers[place])
