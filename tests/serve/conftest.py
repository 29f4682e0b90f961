"""A folder of states as `serve export` writes it, on a tiny model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cedkv.serve import export_state
from cedkv.serve.vllm_connector.folder import StateFolder
from cedkv.state import KVPrefix
from tests.export.test_plain_transformers import state_of
from tests.tiny import HEAD_DIM, KV_HEADS, LAYERS, tiny_lm, tiny_path

SHAPE = (LAYERS, KV_HEADS, HEAD_DIM)


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Save a state and export it; returns the exported folder."""

    def run(prefix: KVPrefix, name: str = "past", to: str = "vllm", architecture: str = "llama", **options) -> Path:
        prefix.save(tmp_path / f"{name}.safetensors", **options)
        path = str(tiny_path(architecture))
        export_state(to, tmp_path / f"{name}.safetensors", tmp_path / "out", tiny_lm(architecture), path)
        return tmp_path / "out"

    return run


@pytest.fixture
def states(write) -> StateFolder:
    """Two states of 8 and 5 slots."""
    write(state_of("llama", slots=5), "short")
    return StateFolder(write(state_of("llama"), "past"), SHAPE)


def with_gaps(prefix: KVPrefix) -> KVPrefix:
    """The state further from its query, with room between slots, and one of them switched off everywhere."""
    moved = replace(prefix, positions=prefix.positions * 3 + 2, query_start=60)
    return moved.without([int(torch.tensor(prefix.slots) // 2)])
