"""An episode on a tiny model, and how much of each measure its tests read."""

import pytest

from cedkv.config import HarmSettings, load_config
from cedkv.episodes import RelationEpisode, episode_from_config
from cedkv.harm import Asked
from cedkv.lm import read_demo_kv
from cedkv.state import KVPrefix
from tests.gate.reports import SMALL
from tests.tiny import tiny_lm

LITTLE = HarmSettings(real_pieces=5, real_tokens=16, foreign_texts=8, continuations=3, continued_tokens=8, questions=6)


@pytest.fixture(scope="session")
def episode() -> RelationEpisode:
    return episode_from_config(tiny_lm("llama"), load_config(None, SMALL))


@pytest.fixture(scope="session")
def asked(episode) -> Asked:
    return Asked(tiny_lm("llama"), episode, LITTLE)


@pytest.fixture(scope="session")
def demonstrations(episode) -> KVPrefix:
    return read_demo_kv(tiny_lm("llama"), episode.tokens).as_prefix()
