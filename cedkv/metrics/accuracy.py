"""Is the answer right: by its first token, as a whole, and how likely it is."""

from collections.abc import Sequence

from jaxtyping import Bool, Float, Int
from torch import Tensor


def first_token_correct(
    log_probs: Float[Tensor, "tokens vocab"], gold: Int[Tensor, " tokens"]
) -> Bool[Tensor, " tokens"]:
    """Whether the most likely next token is the gold answer's."""
    return log_probs.argmax(-1) == gold


def exact_match(generated: Sequence[str], gold: Sequence[str], stop: str = "\n") -> list[bool]:
    """Whether each whole generated answer equals the gold one, surrounding white space aside.

    Parameters
    ----------
    generated
        Continuations of the queries.
    gold
        The answers, as many as there are continuations. Both count up to their first ``stop``.
    stop
        What ends an answer in the episode's template.
    """
    pairs = zip(generated, gold, strict=True)
    return [text.split(stop, 1)[0].strip() == answer.split(stop, 1)[0].strip() for text, answer in pairs]


def answer_logprob(
    log_probs: Float[Tensor, "answer_tokens vocab"], answer: Int[Tensor, " answer_tokens"]
) -> Float[Tensor, ""]:
    """Log-probability (nats, fp32) of a whole answer: row i of ``log_probs`` predicts its token i."""
    return log_probs.float().gather(-1, answer.unsqueeze(-1)).sum()
