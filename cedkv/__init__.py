"""CED-KV: a relation shown by a few demonstrations, as a KV prefix of a few readable slots."""

from cedkv.episodes import Episode
from cedkv.errors import CedKVError
from cedkv.gate import iter_gate, run_gate
from cedkv.lm import load_model
from cedkv.methods import extract, iter_extract
from cedkv.state import KVPrefix
from cedkv.version import __version__

__all__ = [
    "CedKVError",
    "Episode",
    "KVPrefix",
    "__version__",
    "extract",
    "iter_extract",
    "iter_gate",
    "load_model",
    "run_gate",
]
