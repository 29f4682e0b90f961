"""A sequence file of llama.cpp: what stands in it, told by llama.cpp's own formulas, and what is refused.

That llama.cpp reads it and says what the student says is shown by `make serve-llama-test` (`tests/serve/llama/`).
"""

import json
import struct
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from cedkv.cli import main
from cedkv.errors import ConfigError, StateError
from cedkv.lm import LanguageModel, load_model, read_demo_kv
from cedkv.serve import export_state, load_sequence
from cedkv.serve.llama_client import SequenceHandle, check_file, check_model, check_version
from cedkv.serve.llama_cpp import check_config
from cedkv.state import DemoTokens, KVPrefix
from tests.export.test_plain_transformers import state_of
from tests.serve.uncarried import NO_ENGINE_CARRIES
from tests.tiny import tiny_path
from tests.tiny_gguf import tiny_gguf

LAYERS, KV_HEADS, HEAD_DIM, THETA, EPS = 2, 2, 16, 10000.0, 1e-5
IDS = [3, 40, 77, 120, 9]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def lm(model, tmp_path_factory) -> LanguageModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CEDKV_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_model(str(model), device="cpu")


@pytest.fixture
def write(lm, model, tmp_path, monkeypatch):
    """Export a state for the GGUF file; returns its handle's path."""
    monkeypatch.setenv("CEDKV_CACHE", str(Path(lm.model.config.name_or_path).parents[1]))

    def run(prefix: KVPrefix) -> Path:
        prefix.save(tmp_path / "past.safetensors")
        return export_state("llama.cpp", tmp_path / "past.safetensors", tmp_path / "out", lm, str(model))[0]

    return run


@pytest.fixture(scope="module")
def copied(lm) -> KVPrefix:
    """The keys and values of five tokens, at positions 0 to 4."""
    texts = tuple(lm.decode([token]) for token in IDS)
    tokens = DemoTokens(tuple(IDS), texts, ("context",) * len(IDS), (0,) * len(IDS))
    return read_demo_kv(lm, tokens).as_prefix()


@dataclass(frozen=True)
class Sequence:
    """What llama.cpp would read, field by field."""

    header: tuple[int, int, int]
    tokens: list[int]
    cells: list[tuple[int, int, int]]
    transposed: int
    keys: np.ndarray
    values: np.ndarray


def read(path: Path) -> Sequence:
    content, at = path.read_bytes(), 0

    def take(form: str) -> tuple:
        nonlocal at
        at += struct.calcsize(form)
        return struct.unpack_from(form, content, at - struct.calcsize(form))

    header = take("<III")
    tokens = list(take(f"<{header[2]}i"))
    streams, count = take("<II")
    assert streams == 1
    cells = [take("<iIi") for _ in range(count)]
    transposed, layers = take("<II")
    width, keys, values = KV_HEADS * HEAD_DIM, [], []
    for _ in range(layers):
        assert take("<iQ") == (0, width * 4)
        keys.append(np.array(take(f"<{count * width}f")).reshape(count, KV_HEADS, HEAD_DIM))
    for _ in range(layers):
        assert take("<iII") == (0, 4, width)
        values.append(np.array(take(f"<{count * width}f")).reshape(width, count).T.reshape(count, KV_HEADS, HEAD_DIM))
    assert at == len(content), "nothing may be left behind the last row"
    return Sequence(header, tokens, cells, transposed, np.stack(keys), np.stack(values))


def turned(row: np.ndarray, position: int) -> np.ndarray:
    """`GGML_ROPE_TYPE_NORMAL`: neighbours are turned together, `[kv_heads, head_dim]`."""
    angles = position * THETA ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    even, odd = row[:, ::2], row[:, 1::2]
    pairs = even * np.cos(angles) - odd * np.sin(angles), even * np.sin(angles) + odd * np.cos(angles)
    return np.stack(pairs, axis=-1).reshape(row.shape)


def first_layer(model: Path) -> tuple[np.ndarray, np.ndarray]:
    """Keys, not yet turned, and values of `IDS` as the file's own tensors give them, `[tokens, kv_heads, head_dim]`."""
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(model).tensors}
    hidden = tensors["token_embd.weight"][IDS].astype(np.float64)
    normed = hidden / np.sqrt((hidden**2).mean(-1, keepdims=True) + EPS) * tensors["blk.0.attn_norm.weight"]
    keys, values = (normed @ tensors[f"blk.0.attn_{name}.weight"].T for name in ("k", "v"))
    return keys.reshape(-1, KV_HEADS, HEAD_DIM), values.reshape(-1, KV_HEADS, HEAD_DIM)


def test_the_rows_of_a_copied_token_are_those_that_llama_cpp_would_make_of_it(write, copied, model):
    written = read(write(copied).with_suffix(".ggsq"))
    keys, values = first_layer(model)
    expected = np.stack([turned(row, place) for place, row in enumerate(keys)])
    assert np.allclose(written.keys[0], expected, atol=1e-3)
    assert np.allclose(written.values[0], values, atol=1e-3)
    assert not np.allclose(written.keys[0], keys, atol=0.1), "else the turn would not show"


def test_the_header_says_what_the_engine_asks_for(write, copied):
    handle = write(copied)
    written, known = read(handle.with_suffix(".ggsq")), json.loads(handle.read_text())
    assert written.header == (0x67677371, 3, 5)
    assert written.tokens == [known["placeholder"]] * 5
    assert written.cells == [(place, 1, 0) for place in range(5)]
    assert written.transposed == 1 and known["slots"] == 5 and known["version"] == 3


def test_gaps_and_absolute_positions_become_distances(write, copied, model):
    spread = replace(copied, positions=torch.tensor([0, 1, 4, 6, 11]), query_start=20)
    written = read(write(spread).with_suffix(".ggsq"))
    assert [cell[0] for cell in written.cells] == [0, 1, 2, 3, 4]
    distances = [20, 19, 16, 14, 9]
    expected = [turned(row, 5 - far) for row, far in zip(first_layer(model)[0], distances, strict=True)]
    assert np.allclose(written.keys[0], np.stack(expected), atol=1e-3)


def test_slots_that_are_off_are_left_out(write, copied):
    whole = read(write(copied).with_suffix(".ggsq"))
    left = read(write(copied.without([1, 3])).with_suffix(".ggsq"))
    assert left.header[2] == 3
    assert np.array_equal(left.values, whole.values[:, [0, 2, 4]])


@NO_ENGINE_CARRIES
def test_what_it_cannot_carry_is_refused(write, copied, tmp_path, spoil, message):
    with pytest.raises(StateError, match=message):
        write(spoil(copied))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "qwen3"}, "'qwen3' is not written"),
        (
            {"model_type": "llama", "rope_parameters": {"rope_type": "llama3"}},
            "'llama3' is not written",
        ),
    ],
)
def test_models_whose_cells_would_be_others_are_refused(config, message):
    with pytest.raises(StateError, match=message):
        check_config(config)


def test_a_model_that_is_no_gguf_file_is_refused(tmp_path, capsys):
    state_of("llama").save(tmp_path / "past.safetensors")
    arguments = ["--state", str(tmp_path / "past.safetensors"), "--model", str(tiny_path("llama"))]
    assert main(["serve", "export", "--to", "llama.cpp", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert "must have been made with a .gguf file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_client_refuses_another_version_by_name():
    check_version(3, 3)
    with pytest.raises(StateError, match="has version 3 of the format, this llama.cpp reads version 4"):
        check_version(3, 4)


def test_the_client_refuses_a_file_of_which_one_bit_differs(write, copied):
    handle = write(copied)
    known, file = SequenceHandle.load(handle), handle.with_suffix(".ggsq")
    check_file(known, file)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(StateError, match="damaged"):
        check_file(known, file)


def test_the_client_refuses_another_models_file(write, copied, model, tmp_path):
    known = SequenceHandle.load(write(copied))
    check_model(known, model)
    (tmp_path / "other.gguf").write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(StateError, match="made with a model of fingerprint"):
        check_model(known, tmp_path / "other.gguf")
    with pytest.raises(StateError, match="missing.gguf' cannot be read"):
        check_model(known, tmp_path / "missing.gguf")


def test_the_client_says_what_to_install_and_what_is_no_handle(write, copied, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)  # as if it were not installed
    with pytest.raises(ConfigError, match="pip install 'llama-cpp-python"):
        load_sequence(None, write(copied))
    (tmp_path / "past.json").write_text('{"slots": 1}')
    with pytest.raises(StateError, match="is no handle of a state"):
        SequenceHandle.load(tmp_path / "past.json")
