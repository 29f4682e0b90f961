"""What prefixes of documents do to text that asks nothing of them, beside what any text in front does."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor

from cedkv.compressors.views import VIEWS, DocumentDesk
from cedkv.episodes.documents import Question
from cedkv.episodes.off import PLAIN, sample_off
from cedkv.events import Done, Event, Progress
from cedkv.harm import yardsticks
from cedkv.metrics import off_summary
from cedkv.probe import OffProbe


def iter_off_effect(
    desk: DocumentDesk, questions: Sequence[Question], views: Sequence[str], texts: int, seed: int = 0
) -> Iterator[Event]:
    """`Delta` on the frozen stress texts behind the documents' prefixes; `Done(dict[str, OffScores])`.

    The neutral yardsticks stand beside the views: a paragraph of as many tokens as there are slots. A view's figures
    are over all documents, each with the same texts; a view without a prefix has none, as its `Delta` is 0. An event
    comes before each reading, so that whoever shares the model waits for one reading at most.
    """
    off = sample_off("stress", texts, seed, PLAIN).texts
    probe = OffProbe(desk.lm, [text.text for text in off], "stress texts", "load the model in float32")
    plain = yardsticks(desk.lm, desk.slots)
    behind = ((view, VIEWS[view].prefix(desk, question)) for question in questions for view in views)
    found: dict[str, list[Tensor]] = defaultdict(list)
    stage, total = "reading other text", 1 + len(plain) + len(questions) * len(views)
    yield Progress(stage, 0, total)
    probe.base  # noqa: B018 -- read here, on first use, so that others have their turn before the prefixes are
    for done, (name, prefix) in enumerate(chain(plain.items(), behind), start=1):
        yield Progress(stage, done, total)
        if prefix is not None:
            found[name].append(probe.delta(prefix).cpu())
    buckets = [text.bucket for text in off]
    yield Done({name: off_summary(torch.cat(deltas), buckets * len(deltas)) for name, deltas in found.items()})
