"""What each view of a document costs: memory, bytes of keys and values, and time, against the document's length."""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

from cedkv.compressors.gist import document_tokens
from cedkv.compressors.judging import Row
from cedkv.compressors.memory import peak_memory
from cedkv.compressors.views import VIEWS, DocumentDesk
from cedkv.episodes.documents import Question
from cedkv.events import Done, Event, Progress
from cedkv.lm import LanguageModel, read_queries, stream_tokens
from cedkv.state import KVPrefix

# Answers that are timed behind one prefix; the median of them counts.
_REPEATS = 3


def answering_times(lm: LanguageModel, query: str, prefix: KVPrefix | None, new_tokens: int) -> dict[str, float]:
    """Milliseconds to the first greedy token behind a prefix that is there, and tokens per second after it."""
    started = time.perf_counter()
    ends = [time.perf_counter() for _ in stream_tokens(lm, read_queries(lm, [lm.encode(query)], prefix), new_tokens)]
    after = (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0
    return {"ttft_ms": 1e3 * (ends[0] - started), "tokens_per_second": after}


def iter_profile(
    desk: DocumentDesk, questions: Sequence[Question], views: Sequence[str], new_tokens: int = 8
) -> Iterator[Event]:
    """`Done(list[Row])`: for each view and document length the medians of `_cost` over the questions."""
    taken: dict[tuple[str, int], list[Row]] = defaultdict(list)
    if questions:
        shortest = min(questions, key=lambda question: len(question.context))
        for view in views:  # what is made once, or is slow the first time, is no view's cost
            if VIEWS[view].needs != "training":  # which is slow every time
                VIEWS[view].prefix(desk, shortest)
    for number, question in enumerate(questions):
        length = len(document_tokens(desk.lm, question.context))
        for place, view in enumerate(views):
            yield Progress("profiling views", number * len(views) + place, len(questions) * len(views))
            taken[view, length].append(_cost(desk, question, view, new_tokens))
    yield Done([
        {"view": view, "tokens": length, **{name: _median([row[name] for row in some]) for name in some[0]}}
        for (view, length), some in taken.items()
    ])  # fmt: skip


def _cost(desk: DocumentDesk, question: Question, view: str, new_tokens: int) -> Row:
    """One view of one question, from nothing but the text.

    seconds_to_prefix, making_mb : reading the document, and indexing or compressing it, and the most memory meanwhile.
    ttft_ms : to the first token once that is done; where each question has a prefix of its own, with the time to find
        and read its passages.
    answering_mb : the most memory while the answer is generated, with the prefix itself.
    """
    lm = desk.lm
    desk.forget()
    with peak_memory(lm.device) as making:
        started = time.perf_counter()
        prefix = VIEWS[view].prefix(desk, question)
        made = time.perf_counter() - started
    found = 0.0
    if VIEWS[view].of_question:
        started = time.perf_counter()
        prefix = VIEWS[view].prefix(desk, question)
        found = 1e3 * (time.perf_counter() - started)
    desk.forget()
    times = [answering_times(lm, question.query, prefix, new_tokens) for _ in range(_REPEATS)]
    kv = prefix.nbytes if prefix else 0
    with peak_memory(lm.device) as answering:
        answering_times(lm, question.query, prefix, new_tokens)
    return {
        "ttft_ms": found + statistics.median(row["ttft_ms"] for row in times),
        "tokens_per_second": statistics.median(row["tokens_per_second"] for row in times),
        "kv_bytes": kv,
        "seconds_to_prefix": made,
        "making_mb": making.mb,
        "answering_mb": None if answering.mb is None else answering.mb + kv / 2**20,
    }


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
