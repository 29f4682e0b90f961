"""OFF texts: anything but a query of the relation, on which the student must behave like the base.

The texts are made from sentence frames and word lists that ship with the package (``data/``), so the supply
is endless, needs no download and is the same on every machine. A new bucket is one file of frames and one
line in `BUCKETS`.
"""

from cedkv.episodes.off.buckets import BUCKETS, Maker
from cedkv.episodes.off.calibration import calibration_texts
from cedkv.episodes.off.length import length_class
from cedkv.episodes.off.near import PLAIN, NearFormat
from cedkv.episodes.off.real import RealText, ordinary_text, real_stream, real_texts
from cedkv.episodes.off.sampler import (
    DEFINITION_VERSION,
    SPLITS,
    OffSet,
    OffText,
    off_stream,
    sample_off,
    split_of,
)

__all__ = [
    "BUCKETS",
    "DEFINITION_VERSION",
    "PLAIN",
    "SPLITS",
    "Maker",
    "NearFormat",
    "OffSet",
    "OffText",
    "RealText",
    "calibration_texts",
    "length_class",
    "off_stream",
    "ordinary_text",
    "real_stream",
    "real_texts",
    "sample_off",
    "split_of",
]
