"""Gist tokens: a document is read once by the frozen model, then by gists, whose keys and values stand in for it."""

from cedkv.compressors.gist.mask import CONTROLS, IGNORED, Control, GistDataCollator, Region, gist_mask
from cedkv.compressors.gist.reading import GistMemory, compress, document_tokens, with_document

__all__ = [
    "CONTROLS",
    "IGNORED",
    "Control",
    "GistDataCollator",
    "GistMemory",
    "Region",
    "compress",
    "document_tokens",
    "gist_mask",
    "with_document",
]
