"""CED on a document: mixtures of its own keys and values, trained to go on with its sentences as all of it does."""

from collections.abc import Callable, Iterator

from cedkv.config import Config, load_config
from cedkv.episodes.documents import document_episode
from cedkv.events import Event, drain
from cedkv.lm import LanguageModel
from cedkv.methods import iter_extract
from cedkv.methods.base import never
from cedkv.state import DemoTokens, KVPrefix

# Documents have no template: slots are mixtures of single tokens, which stand where they stood.
_SETTINGS = (
    "phase2.injection.positioning_mode=absolute",
    "phase2.select.candidate_policy=all",
    "phase3.start=tokens",
    "phase3.optim.on_batch=16",
)


def iter_train_on_document(
    lm: LanguageModel,
    tokens: DemoTokens,
    slots: int,
    config: Config | None = None,
    stop: Callable[[], bool] = never,
) -> Iterator[Event]:
    """So many slots of one document; the last event is `Done(Extraction)`. No question is known: all that it tells
    counts alike.

    stop : as of `iter_extract`.
    """
    episode = document_episode(tokens, lm.encode("\n\n"))
    yield from iter_extract(lm, episode, "ced", slots, config or load_config(None, _SETTINGS), stop)


def train_on_document(lm: LanguageModel, tokens: DemoTokens, slots: int, config: Config | None = None) -> KVPrefix:
    """Drain `iter_train_on_document` and return its slots."""
    return drain(iter_train_on_document(lm, tokens, slots, config)).prefix
