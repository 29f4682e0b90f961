"""Other relations' queries: `Delta` at the token that would answer them."""

from collections.abc import Generator
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.events import Progress
from cedkv.harm.beside import Asked, Views, beside_base, require_finite
from cedkv.metrics import kl, off_summary
from cedkv.report import OffScores


def foreign(asked: Asked, views: Views) -> Generator[Progress, None, dict[str, OffScores]]:
    """As the report's `off` entry of an OFF set, a bucket for each format, alone and behind examples."""
    stream = asked.episode.off_streams("stress").get("foreign", iter(()))
    texts = list(islice(stream, asked.settings.foreign_texts))
    ids = [asked.lm.encode(off.text) for off in texts]
    found: dict[str, list[Tensor]] = {name: [] for name in views}
    for part, base, behind in beside_base(asked.lm, ids, views):
        for name, student in behind.items():
            found[name].append(kl(student, base).cpu())
        yield Progress("reading other relations", part.stop, len(ids))
    return {name: _figures(torch.cat(deltas), [off.bucket for off in texts]) for name, deltas in found.items() if texts}


def _figures(delta: Float[Tensor, " texts"], buckets: list[str]) -> OffScores:
    require_finite(delta, "other relations' queries")
    return off_summary(delta, buckets)
