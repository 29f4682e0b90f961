"""CED-KV: a relation shown by a few demonstrations, as a KV prefix of a few readable slots.

The public names are imported when they are first asked for: torch and transformers take seconds, and a page or a
settings file can be there without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cedkv.errors import CedKVError
from cedkv.version import __version__

if TYPE_CHECKING:
    from cedkv.episodes import Episode
    from cedkv.gate import iter_gate, run_gate
    from cedkv.lm import load_model
    from cedkv.methods import extract, iter_extract
    from cedkv.state import KVPrefix

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

_HOMES = {
    "Episode": "cedkv.episodes",
    "KVPrefix": "cedkv.state",
    "extract": "cedkv.methods",
    "iter_extract": "cedkv.methods",
    "iter_gate": "cedkv.gate",
    "load_model": "cedkv.lm",
    "run_gate": "cedkv.gate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next time it is found without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
