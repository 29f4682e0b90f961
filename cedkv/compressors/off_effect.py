"""What prefixes of documents do to text that asks nothing of them, beside what any text in front does."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from cedkv.compressors.views import VIEWS, DocumentDesk
from cedkv.episodes.documents import Question
from cedkv.episodes.off import PLAIN, sample_off
from cedkv.events import Done, Event, Progress
from cedkv.harm import YARDSTICKS, yardstick
from cedkv.metrics import off_summary
from cedkv.probe import OffProbe
from cedkv.state import KVPrefix


def iter_off_effect(
    desk: DocumentDesk, questions: Sequence[Question], views: Sequence[str], texts: int, seed: int = 0
) -> Iterator[Event]:
    """`Delta` on the frozen stress texts behind the documents' prefixes; `Done(dict[str, OffScores])`.

    The neutral yardsticks stand beside the views: a paragraph of as many tokens as there are slots. A view's figures
    are over all documents, each with the same texts; a view without a prefix has none, as its `Delta` is 0. An event
    comes before each reading and what it is behind is made, so that whoever shares the model waits for one at most.
    """
    off = sample_off("stress", texts, seed, PLAIN).texts
    probe = OffProbe(desk.lm, [text.text for text in off], "stress texts", "load the model in float32")
    found: dict[str, list[Tensor]] = defaultdict(list)
    readings: list[tuple[str, Callable[[], KVPrefix | None]]] = [
        ("base", lambda: None),
        *((name, partial(yardstick, name, desk.lm, desk.slots)) for name in YARDSTICKS),
        *((view, partial(VIEWS[view].prefix, desk, question)) for question in questions for view in views),
    ]
    for done, (name, made) in enumerate(readings):
        yield Progress("reading other text", done, len(readings))
        prefix = made()
        delta = probe.delta(prefix)
        if prefix is not None:
            found[name].append(delta.cpu())
    buckets = [text.bucket for text in off]
    yield Done({name: off_summary(torch.cat(deltas), buckets * len(deltas)) for name, deltas in found.items()})
