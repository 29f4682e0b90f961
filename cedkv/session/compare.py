"""One query in several views at once: streamed text, next tokens on one scale, and how far the views are apart."""

from collections.abc import Iterator
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from cedkv.errors import CedKVError
from cedkv.lm import LanguageModel, read_behind_each, stream_tokens
from cedkv.metrics import kl
from cedkv.session.views import Comparison, View
from cedkv.state import KVPrefix


def iter_compare(
    lm: LanguageModel,
    query: str,
    prefixes: dict[str, KVPrefix | None],
    *,
    top_k: int = 6,
    max_new_tokens: int = 16,
    stop: str | None = None,
) -> Iterator[Comparison]:
    """Compare views of one text, first their next tokens, then their texts as they grow.

    Parameters
    ----------
    query : the text as the model sees it, template applied.
    prefixes : per view its prefix; must hold `base` (None) and `teacher`.
    stop : what ends a generated answer; None lets all views run on.

    Raises
    ------
    CedKVError
        The query is empty or leaves no room in the model's context.
    """
    ids = lm.encode(query)
    longest = max(prefix.query_start for prefix in prefixes.values() if prefix is not None)
    if not ids:
        raise CedKVError("the query is empty; write something to compare")
    if longest + len(ids) + max_new_tokens > lm.context:
        raise CedKVError(
            f"the query has {len(ids)} tokens; with {longest} of demonstrations and {max_new_tokens} to generate "
            f"that is more than the {lm.context} that {lm.id} takes"
        )
    read = read_behind_each(lm, ids, list(prefixes.values()))
    comparison = Comparison(query, _next_tokens(lm, dict(zip(prefixes, read.logits, strict=True)), top_k))
    yield comparison
    for generated in stream_tokens(lm, read, max_new_tokens, stop=stop):
        texts = [lm.decode(tokens) for tokens in generated]
        views = zip(comparison.views, texts, strict=True)
        comparison = replace(
            comparison, views=tuple(replace(view, text=text.split(stop)[0] if stop else text) for view, text in views)
        )
        yield comparison
    yield replace(comparison, done=True)


def _next_tokens(lm: LanguageModel, logits: dict[str, Float[Tensor, " vocab"]], top_k: int) -> tuple[View, ...]:
    rows = {name: row.float().log_softmax(-1) for name, row in logits.items()}
    views = []
    for name, row in rows.items():
        best = row.topk(top_k)
        views.append(
            View(
                name=name,
                tokens=tuple(lm.decode([token]) for token in best.indices.tolist()),
                probabilities=tuple(best.values.exp().tolist()),
                teacher_probabilities=tuple(rows["teacher"][best.indices].exp().tolist()),
                delta=kl(row, rows["base"]).item(),
                kl_to_teacher=kl(rows["teacher"], row).item(),
            )
        )
    return tuple(views)
