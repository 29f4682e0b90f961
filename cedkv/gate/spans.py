"""The chosen spans under both scoring rules, whichever of them chose."""

from collections.abc import Generator, Iterator
from typing import Any

from cedkv.events import Event
from cedkv.methods import Workbench
from cedkv.methods.select import Scores, Span, score_by_attention, score_by_causal_drop


def score_spans(bench: Workbench, spans: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The spans of a `selection` artifact, in the order in which they were chosen, with their two scores.

    `attention` is a share of probability, `causal_drop` is in nats; see the two rules in `cedkv.methods.select`.
    """
    if not spans:
        return
    chosen = [Span(span["start"], span["end"], span["anchor"]) for span in spans]
    attention = _drained(score_by_attention(bench, chosen)).values
    causal_drop = _drained(score_by_causal_drop(bench, chosen)).values
    for order, span in enumerate(chosen):
        yield {
            "order": order,
            "start": span.start,
            "end": span.end,
            "text": "".join(bench.episode.tokens.texts[token] for token in span.tokens),
            "attention": attention[order],
            "causal_drop": causal_drop[order],
        }


def _drained(scoring: Generator[Event, None, Scores]) -> Scores:
    """What a scoring rule returns once its progress has been read."""
    while True:
        try:
            next(scoring)
        except StopIteration as end:
            return end.value
