"""Tiny readers whose adapters do something: random where a fresh one is zero."""

import pytest
import torch

from cedkv.lm.gists import GistReader, GistShape, make_reader
from tests.tiny import tiny_lm

GISTS = 5
DOCUMENT = "once upon a time there was a tall king who lived by the sea. The pass key is 48291. Q: rain"
QUERY = "\nThe pass key is"


def random_reader(architecture: str = "llama", **shape) -> GistReader:
    """A reader of the session's tiny model with an adapter of random weights, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reader = make_reader(tiny_lm(architecture), GistShape(**{"tokens": GISTS, "rank": 4, "alpha": 8, **shape}))
        for name, parameter in reader.model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.1)
            elif "trainable_tokens_delta" in name:
                parameter.data.normal_(std=0.2)
    reader.model.eval()
    return reader


@pytest.fixture(scope="module")
def reader() -> GistReader:
    return random_reader()
