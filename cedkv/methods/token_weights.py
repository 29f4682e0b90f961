"""Which tokens of an answer count in `L_on`: the scorers of token weights, on the answers that slots are trained on."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cedkv.lm import LanguageModel
from cedkv.lm.hidden import hidden_states
from cedkv.optim.loop import LoopSettings, Training, run_training
from cedkv.optim.weights import Run, ScorerSettings, TokenBatch, find_scorer
from cedkv.optim.weights.base import IGNORED
from cedkv.wmtp.critic import CriticObjective

# Weights of the rows read: given the student's and the teacher's log-probabilities, and the answers' values.
Weigh = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], Float[Tensor, " rows"]]

SCORERS = {"rho1": "rho1-excess-v1", "critic": "critic-delta-v1"}
# Soft, so that no token of an answer is left out altogether: there are few of them.
SOFT = ScorerSettings(selection="soft")
_CRITIC = LoopSettings(steps=100, tick_every=10)
_CRITIC_RATE = 0.02


def weigh_with(name: str) -> Weigh | None:
    """How a setting weighs tokens; None for `uniform`."""
    if name == "uniform":
        return None
    run = find_scorer(SCORERS[name]).setup(SOFT)
    return lambda student, teacher, values: answer_weights(run, student, teacher, values)


@torch.no_grad()
def answer_weights(
    run: Run, student: Sequence[Tensor], teacher: Sequence[Tensor], values: Sequence[Tensor]
) -> Float[Tensor, " rows"]:
    """A weight for every row, mean 1. The token of a row is the one the teacher says; the teacher is the reference.

    Each argument holds one tensor a query: log-probabilities `[rows, vocab]`, and values `[rows + 1]`, the first of
    them before the answer's first token; no values where no scorer needs them.
    """
    tokens = [rows.argmax(-1) for rows in teacher]
    losses, reference = (
        [-rows.gather(1, said[:, None])[:, 0] for rows, said in zip(view, tokens, strict=True)]
        for view in (student, teacher)
    )
    batch = TokenBatch(
        _placed(tokens, IGNORED),
        _placed(losses, 0.0),
        _placed(reference, 0.0),
        pad_sequence(list(values), batch_first=True) if values else None,
    )
    return run(batch)["weights"][batch.valid]


def _placed(rows: Sequence[Tensor], fill: float) -> Tensor:
    """One row a query, behind a place for the token before."""
    led = [torch.cat([torch.full_like(row[:1], fill), row]) for row in rows]
    return pad_sequence(led, batch_first=True, padding_value=fill)


def answer_values(
    lm: LanguageModel, ids: Sequence[tuple[int, ...]], reads: Sequence[int]
) -> list[Float[Tensor, " places"]]:
    """A critic's value before every answer's first token and after each of its tokens; the end changes nothing.

    It learns from the queries with their own answers, and with each other's: no label is used.
    """
    split = [len(text) - read + 1 for text, read in zip(ids, reads, strict=True)]
    answers = [text[at:] for text, at in zip(ids, split, strict=True)]
    wrong = [text[:at] + answers[place - 1] for place, (text, at) in enumerate(zip(ids, split, strict=True))]
    states = hidden_states(lm, ids)
    critic = CriticObjective.of_texts(states, hidden_states(lm, wrong), _CRITIC_RATE)
    training = Training(critic, _CRITIC)
    for _ in run_training(training):
        pass
    critic.load(training.best)
    values = [critic.values(rows)[-read:] for rows, read in zip(states, reads, strict=True)]
    return [torch.cat([row, row[-1:]]) for row in values]
