"""Which tokens of an answer count in `L_on`: those that the teacher says, by the scorers of token weights."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from cedkv.wmtp.answers import answer_scorer, weigh_answers

# One tensor a query each, and every query has rows of its own number. A critic's values are one more than the rows.
LogProbs = Sequence[Float[Tensor, "_rows vocab"]]
Values = Sequence[Float[Tensor, " _places"]]
# Weights of the rows read: given the student's and the teacher's log-probabilities, and the answers' values.
Weigh = Callable[[LogProbs, LogProbs, Values], Float[Tensor, " rows"]]


def weigh_with(name: str) -> Weigh | None:
    """How a setting weighs the rows of answers, mean 1; None for `uniform`.

    The token of a row is the one that the teacher says; the teacher is the reference.
    """
    run = answer_scorer(name)
    if run is None:
        return None

    def weigh(student: LogProbs, teacher: LogProbs, values: Values) -> Float[Tensor, " rows"]:
        tokens = [rows.argmax(-1) for rows in teacher]
        losses, reference = (
            [-rows.gather(1, said[:, None])[:, 0] for rows, said in zip(view, tokens, strict=True)]
            for view in (student, teacher)
        )
        return weigh_answers(run, tokens, [rows.detach() for rows in losses], reference, values)

    return weigh
