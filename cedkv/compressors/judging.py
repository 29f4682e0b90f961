"""Views of documents judged by the text that is generated behind them, and what each costs."""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from cedkv.compressors.views import VIEWS, DocumentDesk
from cedkv.episodes.documents import Question
from cedkv.events import Done, Event, GateCriterion, Progress
from cedkv.lm import LanguageModel, generate, read_queries, stream_tokens
from cedkv.metrics.extraction import passkey_correct, values_found
from cedkv.state import KVPrefix

Row = dict[str, Any]
# The plan's success criteria.
LEAST_PASSKEY, LEAST_THEME_GAIN, LEAST_TTFT_GAIN = 0.70, 0.20, 0.30
_SINGLE = ("passkey", "distractors", "multi_key")


def score(question: Question, text: str) -> float:
    """1 or 0 for a single value, the share of the values that were found for several, and for a theme's name."""
    if question.about.get("kind") in _SINGLE:
        return float(passkey_correct(text, question.answers))
    if question.about.get("kind") == "multi_value":
        return values_found(text, question.answers)
    return max(values_found(text, [answer]) for answer in question.answers)


def iter_judging(desk: DocumentDesk, questions: Sequence[Question], views: Sequence[str]) -> Iterator[Event]:
    """Ask every question behind every view; `Done(list[Row])` has a row for each of both, in their order."""
    rows: list[Row] = []
    for number, question in enumerate(questions):
        yield Progress("documents", number, len(questions))
        rows += [_row(desk, question, view) for view in views]
    yield Done(rows)


def _row(desk: DocumentDesk, question: Question, view: str) -> Row:
    started = time.perf_counter()
    prefix = VIEWS[view](desk, question)
    made = time.perf_counter() - started
    text = generate(desk.lm, [desk.lm.encode(question.query)], prefix, question.max_new_tokens)[0]
    return {
        "view": view,
        **question.about,
        "score": score(question, text),
        "answer": text,
        "answers": list(question.answers),
        "slots": prefix.slots if prefix else 0,
        "kv_bytes": prefix.nbytes if prefix else 0,
        "seconds_to_prefix": made,
    }


def accuracy_table(rows: Sequence[Row], *by: str) -> list[Row]:
    """Mean score and count of rows that agree in `by`, in the order in which they come."""
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row.get(name) for name in by)].append(row)
    return [
        {**dict(zip(by, key, strict=True)), "score": statistics.fmean(row["score"] for row in some), "count": len(some)}
        for key, some in groups.items()
    ]


def answering_times(lm: LanguageModel, query: str, prefix: KVPrefix | None, new_tokens: int) -> dict[str, float]:
    """Milliseconds to the first greedy token behind a prefix that is there, and tokens per second after it."""
    started = time.perf_counter()
    ends = [time.perf_counter() for _ in stream_tokens(lm, read_queries(lm, [lm.encode(query)], prefix), new_tokens)]
    after = (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0
    return {"ttft_ms": 1e3 * (ends[0] - started), "tokens_per_second": after}


def profile(desk: DocumentDesk, questions: Sequence[Question], views: Sequence[str], new_tokens: int = 8) -> list[Row]:
    """Per view and document length, medians: milliseconds to the first token once a document is there, tokens per
    second, bytes of keys and values, and the seconds that making the prefix took, which retrieval pays per question."""
    taken: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for question in questions:
        length = len(desk.document(question.context).tokens)
        for view in views:
            started = time.perf_counter()
            prefix = VIEWS[view](desk, question)
            made = time.perf_counter() - started
            times = answering_times(desk.lm, question.query, prefix, new_tokens)
            if view == "retrieved":
                times["ttft_ms"] += 1e3 * made
            kv = prefix.nbytes if prefix else 0
            taken[view, length].append({**times, "kv_bytes": kv, "seconds_to_prefix": made})
    return [
        {"view": view, "tokens": length, **{name: statistics.median(row[name] for row in some) for name in some[0]}}
        for (view, length), some in taken.items()
    ]


def success_criteria(rows: Sequence[Row], profiled: Sequence[Row]) -> list[GateCriterion]:
    """The plan's criteria, of what was measured: passkeys, themes against retrieval, memory and time to first token."""
    scores = {(row["kind"], row["view"]): row["score"] for row in accuracy_table(rows, "kind", "view")}
    costs = _means(profiled)
    found: list[GateCriterion] = []
    if ("passkey", "gist") in scores:
        found.append(_at_least("passkey_gist", scores["passkey", "gist"], LEAST_PASSKEY, "pass keys that gists keep"))
    if ("theme", "gist") in scores and ("theme", "retrieved") in scores:
        gain = scores["theme", "gist"] - scores["theme", "retrieved"]
        found.append(_at_least("theme_gain", gain, LEAST_THEME_GAIN, "themes, gist above retrieval"))
    if "gist" in costs and "full" in costs:
        saved = 1 - costs["gist"]["kv_bytes"] / costs["full"]["kv_bytes"]
        found.append(_at_least("memory_saved", saved, 0.0, "share of the document's KV bytes that gists save"))
    if "gist" in costs and "retrieved" in costs:
        sooner = 1 - costs["gist"]["ttft_ms"] / costs["retrieved"]["ttft_ms"]
        found.append(_at_least("ttft_saved", sooner, LEAST_TTFT_GAIN, "time to first token, gist below retrieval"))
    return found


def _means(profiled: Sequence[Row]) -> dict[str, Row]:
    views = dict.fromkeys(row["view"] for row in profiled)
    return {
        view: {
            name: statistics.fmean(row[name] for row in profiled if row["view"] == view)
            for name in ("kv_bytes", "ttft_ms")
        }
        for view in views
    }


def _at_least(name: str, value: float, threshold: float, about: str) -> GateCriterion:
    return GateCriterion("B", name, value, ">=", threshold, value >= threshold, about)
