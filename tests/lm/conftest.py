"""Every test that takes `architecture` runs once for each supported architecture."""

import pytest

from cedkv.lm import LanguageModel, read_demo_kv
from cedkv.state import DemoKV
from tests.tiny import ARCHITECTURES, QUERY_TEXTS, text_tokens, tiny_lm


@pytest.fixture(params=ARCHITECTURES)
def architecture(request) -> str:
    return request.param


@pytest.fixture
def tiny(architecture: str) -> LanguageModel:
    return tiny_lm(architecture)


@pytest.fixture
def demo_kv(tiny: LanguageModel) -> DemoKV:
    return read_demo_kv(tiny, text_tokens(tiny))


@pytest.fixture
def queries(tiny: LanguageModel) -> list[list[int]]:
    return [tiny.encode(text) for text in QUERY_TEXTS]
