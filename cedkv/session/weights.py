"""Which tokens matter: every scorer's weights on a run's demonstrations, and on a text that somebody gives.

The model is the frozen one that sees a demonstration, or the text, alone; the reference is the same model behind the
demonstrations before it, or behind all of them. So a token counts for `rho1` when demonstrations make it likelier.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
from jaxtyping import Float, Real
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cedkv.errors import CedKVError
from cedkv.lm import LanguageModel, log_probs
from cedkv.optim.weights import SCORERS, TokenBatch
from cedkv.optim.weights.base import IGNORED
from cedkv.session.compare import teacher_of
from cedkv.session.runs import Run
from cedkv.session.slots import slot_map
from cedkv.session.views import Weighed, Weights
from cedkv.state import DemoTokens, KVPrefix
from cedkv.wmtp.answers import SOFT, answer_values

Span = tuple[int, int]

# A text's positions are all read twice; longer ones take seconds.
MOST_TOKENS = 256


def weigh_demonstrations(lm: LanguageModel, prefix: KVPrefix) -> Weighed:
    """What every scorer says of the tokens of a state's demonstrations, and of the slots that are made of them.

    Raises
    ------
    CedKVError
        The state does not name its demonstrations' tokens.
    """
    if prefix.mixture is None:
        raise CedKVError("this state does not say what it is made of; choose a run whose slots are mixtures of tokens")
    tokens = prefix.mixture.tokens
    spans = list(tokens.demo_spans())
    rows = [tokens.ids[start:end] for start, end in spans]
    lead = len(lm.bos)
    whole = _losses(lm, tokens.ids[lead:])
    alone = [_losses(lm, row) for row in rows]
    told = [whole[start - lead : end - lead - 1] for start, end in spans]
    batch = TokenBatch(
        _placed([torch.tensor(row[1:]) for row in rows], IGNORED),
        _placed(alone, 0.0),
        _placed(told, 0.0),
        _values(lm, tokens, spans),
    )
    weights = _weighed(batch, spans, len(tokens))
    slots = {name: _of_slots(prefix, told) for name, told in weights.items()}
    return Weighed(tokens.texts, tokens.demo, weights, slots)


def weigh_text(lm: LanguageModel, run: Run, text: str) -> Weighed:
    """What the scorers that need no answers say of a text's tokens.

    Raises
    ------
    CedKVError
        The text is shorter than two tokens, or does not fit behind the demonstrations.
    """
    ids, teacher = lm.encode(text), teacher_of(lm, run)
    room = lm.context - teacher.query_start
    if len(ids) < 2:
        raise CedKVError("the text has no token that another one predicts; write a longer one")
    if len(ids) > min(room, MOST_TOKENS):
        raise CedKVError(f"the text has {len(ids)} tokens, more than {min(room, MOST_TOKENS)}; give a part of it")
    batch = TokenBatch(
        _placed([torch.tensor(ids[1:])], IGNORED),
        _placed([_losses(lm, ids)], 0.0),
        _placed([_losses(lm, ids, teacher)], 0.0),
    )
    weights = _weighed(batch, [(0, len(ids))], len(ids))
    return Weighed(tuple(lm.decode([token]) for token in ids), (0,) * len(ids), weights)


def _losses(lm: LanguageModel, ids: Sequence[int], prefix: KVPrefix | None = None) -> Float[Tensor, " tokens"]:
    """Of every token but the first, nats."""
    rows = log_probs(lm, [tuple(ids)], prefix, [len(ids)])[:-1]
    return -rows.gather(1, torch.tensor(ids[1:], device=rows.device)[:, None])[:, 0].cpu()


def _values(lm: LanguageModel, tokens: DemoTokens, spans: Sequence[Span]) -> Float[Tensor, "demos tokens"] | None:
    """A critic's value after every token but the first of each demonstration; it changes at the last output alone.

    None where a demonstration has no output, as a document has none.
    """
    outputs = [_last_output(tokens, span) for span in spans]
    if None in outputs:
        return None
    answers = [output for output in outputs if output is not None]
    ids = [tokens.ids[start:end] for (start, _), (_, end) in zip(spans, answers, strict=True)]
    read = answer_values(lm, ids, [end - start for start, end in answers])
    values = []
    for (start, end), (first, last), row in zip(spans, answers, read, strict=True):
        before = row[:1].expand(first - start - 1)
        values.append(torch.cat([before, row[1 : last - first + 1], row[-1:].expand(end - last)]).cpu())
    return _placed(values, 0.0)


def _last_output(tokens: DemoTokens, span: Span) -> Span | None:
    """Where the last output of a demonstration begins and ends."""
    runs = [list(run) for role, run in groupby(range(*span), key=tokens.roles.__getitem__) if role == "output"]
    return (runs[-1][0], runs[-1][-1] + 1) if runs else None


def _placed(rows: Sequence[Real[Tensor, " _tokens"]], fill: float) -> Real[Tensor, "rows tokens"]:
    return pad_sequence(list(rows), batch_first=True, padding_value=fill)


def _weighed(batch: TokenBatch, spans: Sequence[Span], tokens: int) -> dict[str, Weights]:
    """By scorer the weights of all tokens, each in its place; None where nothing in front predicts a token.

    A scorer that needs values is left out where there are none.
    """
    weights = {}
    for name, scorer in SCORERS.items():
        if "values" in scorer.needs and batch.values is None:
            continue
        placed: list[float | None] = [None] * tokens
        for row, (start, end) in zip(scorer.setup(SOFT)(batch)["weights"].tolist(), spans, strict=True):
            placed[start + 1 : end] = row[: end - start - 1]
        weights[name] = tuple(placed)
    return weights


def _of_slots(prefix: KVPrefix, told: Weights) -> Weights:
    """The mean weight of the tokens that a slot is made of; None where none of them has a weight."""
    known = [weight is not None for weight in told]
    values = torch.tensor([weight or 0.0 for weight in told])
    shares = torch.tensor(slot_map(prefix).weights) * torch.tensor(known)
    whole, weighed = shares.sum(dim=1), (shares * values).sum(dim=1)
    return tuple((score / share).item() if share > 0 else None for score, share in zip(weighed, whole, strict=True))
