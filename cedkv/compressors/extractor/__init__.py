"""The extractor: trained once for a model, it corrects closed-form slots of any relation in one forward of its own."""

from cedkv.compressors.extractor.apply import ExtractorSlots, extracted
from cedkv.compressors.extractor.files import TrainedExtractor, load_extractor, save_extractor, shape_for
from cedkv.compressors.extractor.net import Extractor, ExtractorShape
from cedkv.compressors.extractor.places import KINDS, Places, read_places, token_kinds

__all__ = [
    "KINDS",
    "Extractor",
    "ExtractorShape",
    "ExtractorSlots",
    "Places",
    "TrainedExtractor",
    "extracted",
    "load_extractor",
    "read_places",
    "save_extractor",
    "shape_for",
    "token_kinds",
]
