"""The metadata block: everything docs/state-format.md lists is in the file of an extraction."""

import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.methods import extract
from cedkv.provenance import library_versions
from cedkv.state import KVPrefix
from cedkv.state.header import FORMAT_VERSION, Header, Notes
from tests.tiny import HEAD_DIM, KV_HEADS, LAYERS, tiny_lm

SETTINGS = ["episode.task=capitalize", "episode.demos=4", "episode.on_train=4", "phase2.eval.on_samples=4"]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "state-format.md"


@pytest.fixture(scope="module")
def header(tmp_path_factory) -> dict:
    lm, config = tiny_lm("llama"), load_config(None, SETTINGS)
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    extract(lm, episode_from_config(lm, config), "select", 6, config).prefix.save(path, "int8")
    with safe_open(path, framework="pt") as file:  # the safetensors package reads what we write
        assert file.get_tensor("keys").shape == (LAYERS, KV_HEADS, 6, HEAD_DIM)
        return json.loads(file.metadata()["header"])


def test_the_block_says_what_the_state_is_and_where_it_is_from(header):
    lm, config = tiny_lm("llama"), load_config(None, SETTINGS)
    shape = [header[name] for name in ("format_version", "slots", "layers", "kv_heads", "head_dim", "dtype")]
    assert shape == [FORMAT_VERSION, 6, LAYERS, KV_HEADS, HEAD_DIM, "int8"]
    assert (header["fingerprint"], header["versions"]) == (lm.fingerprint, library_versions())
    notes = header["meta"]
    assert (notes["method"], notes["task"], notes["model"]) == ("select", "capitalize", lm.id)
    assert (notes["positioning"], notes["padding"]) == ("compact", "null_pad")
    assert notes["rope"]["rope_type"] == "llama3"
    assert notes["tokenizer"] == lm.tokenizer_fingerprint
    assert notes["settings"] == config.model_dump(mode="json")
    assert notes["episode"] == episode_from_config(lm, config).sha256
    assert notes["metrics"].keys() == {"train_kl", "train_agreement"}


def test_another_seed_is_another_episode_and_judging_more_queries_is_not():
    lm = tiny_lm("llama")
    one, same, other = (
        episode_from_config(lm, load_config(None, [*SETTINGS, more])).sha256
        for more in ("run.seed=0", "phase2.eval.off_samples=9", "run.seed=1")
    )
    assert one == same != other


def test_every_field_is_documented():
    page = DOCS.read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    assert {*Header.model_fields, *Notes.model_fields} <= named


def test_what_is_read_has_the_notes_that_were_written(header, tmp_path):
    lm, config = tiny_lm("llama"), load_config(None, SETTINGS)
    prefix = extract(lm, episode_from_config(lm, config), "select", 6, config).prefix
    prefix.save(tmp_path / "state.safetensors")
    assert KVPrefix.load(tmp_path / "state.safetensors").meta == prefix.meta
