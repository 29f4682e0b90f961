"""A small episode on a tiny random model, for what holds whatever the model knows."""

import pytest

from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.methods import Workbench
from tests.gate.reports import SMALL
from tests.tiny import tiny_lm


@pytest.fixture
def bench_with():
    """Make a workbench of the small episode with more settings, `a.b=c`."""

    def make(*overrides: str) -> Workbench:
        config = load_config(None, [*SMALL, *overrides])
        lm = tiny_lm("llama")
        return Workbench(lm, episode_from_config(lm, config), config)

    return make
