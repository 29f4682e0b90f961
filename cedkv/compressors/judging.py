"""Views of documents judged by the text that is generated behind them."""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from cedkv.calibration import iter_calibration
from cedkv.compressors.views import VIEWS, DocumentDesk
from cedkv.episodes.documents import Question
from cedkv.events import Done, Event, Progress
from cedkv.lm import generate
from cedkv.metrics.extraction import passkey_correct, values_found

Row = dict[str, Any]
_SINGLE = ("passkey", "distractors", "multi_key")


def score(question: Question, text: str) -> float:
    """1 or 0 for a single value, the share of the values that were found for several, and for a theme's name."""
    if question.about.get("kind") in _SINGLE:
        return float(passkey_correct(text, question.answers))
    if question.about.get("kind") == "multi_value":
        return values_found(text, question.answers)
    return max(values_found(text, [answer]) for answer in question.answers)


def iter_judging(desk: DocumentDesk, questions: Sequence[Question], views: Sequence[str]) -> Iterator[Event]:
    """Ask every question behind every view; `Done(list[Row])` has a row for each of both, in their order.

    Raises
    ------
    DemoError
        A document is too long for the model. It is said before the first question is asked.
    """
    rows: list[Row] = []
    for question in questions:
        desk.check(question)
    if any(VIEWS[view].needs == "directions" for view in views):
        yield from iter_calibration(desk.lm)
    for number, question in enumerate(questions):
        yield Progress("documents", number, len(questions))
        rows += [_row(desk, question, view) for view in views]
    yield Done(rows)


def _row(desk: DocumentDesk, question: Question, view: str) -> Row:
    started = time.perf_counter()
    prefix = VIEWS[view].prefix(desk, question)
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
