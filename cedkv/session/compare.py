"""One query in several views at once: streamed text, next tokens on one scale, and how far the views are apart."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from cedkv.episodes import make_query, tokenize_demos
from cedkv.errors import CedKVError
from cedkv.lm import LanguageModel, check_room, read_behind_each, read_demo_kv, read_lead, stream_tokens
from cedkv.metrics import kl
from cedkv.session.runs import Run
from cedkv.session.slots import Mix, SlotChange
from cedkv.session.views import Comparison, View
from cedkv.state import KVPrefix


def iter_asked(
    lm: LanguageModel,
    run: Run,
    query: str,
    views: Sequence[str],
    plain: bool,
    change: SlotChange | Mix | None,
    other: Run | None,
) -> Iterator[Comparison]:
    """Ask a run's views: a query of its template, or a text as it stands where it is `plain`; see `prefixes_of`."""
    template = run.template(lm)
    lead = None if plain else read_lead(lm, tokenize_demos(lm, [], template))
    prefixes = prefixes_of(lm, run, views, lead, change, other)
    text = query if plain else make_query(lm, template, query).text
    yield from iter_compare(lm, text, prefixes, stop=None if plain else template.stop)


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
    prefixes : per view its prefix; must hold `teacher`, and `base` (None, or what leads a query of the template).
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
    check_room(lm, longest + len(ids), "the query behind the demonstrations", max_new_tokens)
    read = read_behind_each(lm, ids, list(prefixes.values()))
    comparison = Comparison(query, _next_tokens(lm, dict(zip(prefixes, read.logits, strict=True)), top_k))
    yield comparison
    for generated in stream_tokens(lm, read, max_new_tokens, stop=stop):
        views = zip(comparison.views, generated, strict=True)
        comparison = replace(comparison, views=tuple(_saying(lm, view, tokens, stop) for view, tokens in views))
        yield comparison
    yield replace(comparison, done=True)


def _saying(lm: LanguageModel, view: View, tokens: Sequence[int], stop: str | None) -> View:
    text = lm.decode(tokens)
    return replace(view, text=text.split(stop)[0] if stop else text, said=tuple(tokens))


def prefixes_of(
    lm: LanguageModel,
    run: Run,
    views: Sequence[str],
    lead: KVPrefix | None,
    change: SlotChange | Mix | None,
    other: Run | None,
) -> dict[str, KVPrefix | None]:
    """By view the prefixes of a run that a comparison shows: base, teacher, the student and the other `views`.

    Parameters
    ----------
    lead : what the base sees in front of the query.
    change : adds `changed`, a state of the run with slots changed, and that state beside it.
    other : the run that the change takes a slot from.
    """
    touched = (change.method or run.student,) if change else ()
    prefixes: dict[str, KVPrefix | None] = {"base": lead, "teacher": teacher_of(lm, run)}
    prefixes |= {name: run.prefix(name) for name in dict.fromkeys([run.student, *views, *touched])}
    if change is not None:
        prefixes["changed"] = change.apply(run.prefix(*touched), other.prefix(other.student) if other else None)
    return prefixes


def teacher_of(lm: LanguageModel, run: Run) -> KVPrefix:
    """The demonstrations' whole cache, from the tokens that the run's states carry; read once.

    Raises
    ------
    CedKVError
        No state of the run names its demonstrations' tokens.
    """
    if run.teacher is None:
        mixtures = [mixture for method in run.methods if (mixture := run.prefix(method).mixture)]
        if not mixtures:
            raise CedKVError(f"run {run.id!r} has no state that names its demonstrations' tokens")
        run.teacher = read_demo_kv(lm, mixtures[0].tokens).as_prefix()
    return run.teacher


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
