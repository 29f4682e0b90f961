"""Neutral texts on which a model is calibrated: all kinds of text, and no relation."""

from functools import cache
from itertools import islice

from cedkv.episodes.off.buckets import BUCKETS
from cedkv.episodes.off.near import PLAIN
from cedkv.episodes.off.sampler import off_stream

_TEXTS = 24
# Texts of the stream are short; as many as this one after another give the distances at which queries stand.
_JOINED = 4


@cache
def calibration_texts() -> tuple[str, ...]:
    """Texts of some seventy tokens from the training split, the same on every machine and drawn once."""
    buckets = tuple(bucket for bucket in BUCKETS if bucket != "near_format")
    stream = off_stream("pool", 0, PLAIN, buckets)
    texts = [off.text for off in islice(stream, _TEXTS * _JOINED)]
    return tuple("\n".join(texts[start : start + _JOINED]) for start in range(0, len(texts), _JOINED))
