"""Generated text: does a continuation of ordinary text change, and how soon?"""

from collections.abc import Generator, Sequence

from cedkv.episodes.off import real_texts
from cedkv.events import Progress
from cedkv.harm.beside import Asked, Views
from cedkv.lm import LanguageModel, read_queries, stream_tokens
from cedkv.lm.forward import pack_slices
from cedkv.report import ContinuedScores
from cedkv.state import KVPrefix

# Tokens of each beginning: so many that the text speaks for itself.
_BEGINNING = 32
# Lengths at which a continuation is compared with the base's.
_LENGTHS = (1, 4, 8, 16, 32, 64)


def continued(asked: Asked, views: Views) -> Generator[Progress, None, dict[str, ContinuedScores]]:
    """`same_first`: the share of greedy continuations whose first so many tokens are the base's own.

    `same_tokens` : how many tokens are the same before the first other one, in the mean.
    """
    pieces = real_texts("judged", asked.settings.continuations)
    ids = [asked.lm.encode(piece.text)[:_BEGINNING] for piece in pieces]
    length = asked.settings.continued_tokens
    base = greedy(asked.lm, ids, None, length)
    found: dict[str, ContinuedScores] = {}
    for number, (name, view) in enumerate(views.items()):
        yield Progress("continuing real text", number, len(views))
        same = [_common(*pair) for pair in zip(base, greedy(asked.lm, ids, view, length), strict=True)]
        found[name] = {
            "count": len(ids),
            "tokens": length,
            "same_first": {str(n): sum(each >= n for each in same) / len(same) for n in _LENGTHS if n <= length},
            "same_tokens": sum(same) / len(same),
        }
    return found


def greedy(lm: LanguageModel, queries: Sequence[Sequence[int]], view: KVPrefix | None, length: int) -> list[list[int]]:
    """The most likely tokens that follow each query; fewer than `length` where the text ends."""
    rows: list[list[int]] = []
    for part in pack_slices(queries):
        *_, ids = stream_tokens(lm, read_queries(lm, queries[part], view), length)
        rows += ids
    return [[*row, *[-1] * (length - len(row))] for row in rows]


def _common(base: Sequence[int], student: Sequence[int]) -> int:
    """How many tokens are the same before the first other one."""
    pairs = enumerate(zip(base, student, strict=True))
    return next((place for place, (one, other) in pairs if one != other), len(base))
