"""CED on a document: mixtures of its own keys and values, trained to go on with its sentences as all of it does."""

from cedkv.config import Config, load_config
from cedkv.episodes.documents import document_episode
from cedkv.lm import LanguageModel
from cedkv.methods import extract
from cedkv.state import DemoTokens, KVPrefix

# Documents have no template: slots are mixtures of single tokens, which stand where they stood.
_SETTINGS = (
    "phase2.injection.positioning_mode=absolute",
    "phase2.select.candidate_policy=all",
    "phase3.start=tokens",
    "phase3.optim.on_batch=16",
)


def train_on_document(lm: LanguageModel, tokens: DemoTokens, slots: int, config: Config | None = None) -> KVPrefix:
    """So many slots of one document. No question is known: all that it tells counts alike."""
    episode = document_episode(tokens, lm.encode("\n\n"))
    return extract(lm, episode, "ced", slots, config or load_config(None, _SETTINGS)).prefix
