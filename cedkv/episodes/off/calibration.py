"""Neutral texts on which a model is calibrated: all kinds of text, and no relation."""

from itertools import islice

from cedkv.episodes.off.buckets import BUCKETS
from cedkv.episodes.off.near import PLAIN
from cedkv.episodes.off.sampler import off_stream

_TEXTS = 24
# Texts of the stream are short; as many as this one after another give the distances at which queries stand.
_JOINED = 4


def calibration_texts() -> list[str]:
    """Texts of some seventy tokens from the training split, the same on every machine."""
    buckets = tuple(bucket for bucket in BUCKETS if bucket != "near_format")
    stream = off_stream("pool", 0, PLAIN, buckets)
    texts = [off.text for off in islice(stream, _TEXTS * _JOINED)]
    return ["\n".join(texts[start : start + _JOINED]) for start in range(0, len(texts), _JOINED)]
