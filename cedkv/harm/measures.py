"""The measures there are, and all that are asked for over several views."""

from collections.abc import Generator, Mapping
from typing import Any, TypeVar

from cedkv.config import HarmSettings
from cedkv.events import Progress
from cedkv.harm.beside import Asked, Figures, Measure, Views
from cedkv.harm.choice import choice
from cedkv.harm.continued import continued
from cedkv.harm.foreign import foreign
from cedkv.harm.real_text import real_text

Result = TypeVar("Result")

# By the name of its figures in a report, with the setting that says how much it reads.
MEASURES: dict[str, tuple[str, Measure]] = {
    "real_text": ("real_pieces", real_text),
    "foreign": ("foreign_texts", foreign),
    "continued": ("continuations", continued),
    "choice": ("questions", choice),
}


def asked_for(settings: HarmSettings) -> list[str]:
    """The measures that read anything."""
    return [name for name, (amount, _) in MEASURES.items() if getattr(settings, amount)]


def iter_harm(asked: Asked, views: Views) -> Generator[Progress, None, dict[str, Mapping[str, Figures]]]:
    """Figures by measure and view, of all measures that the settings ask for.

    Raises
    ------
    NonFiniteError
        The model's answers are no numbers.
    """
    found: dict[str, Mapping[str, Figures]] = {}
    for name in asked_for(asked.settings):
        found[name] = yield from MEASURES[name][1](asked, views)
    return found


def harm_of(asked: Asked, views: Views) -> dict[str, Mapping[str, Any]]:
    """Drain `iter_harm`."""
    return result_of(iter_harm(asked, views))


def result_of(work: Generator[Progress, None, Result]) -> Result:
    """Let a measure run to its end and return what it found."""
    while True:
        try:
            next(work)
        except StopIteration as finished:
            return finished.value
