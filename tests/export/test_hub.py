"""Sharing through a folder, as the Hub holds it; nothing here leaves the machine."""

from dataclasses import replace

import pytest
import yaml

from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.errors import OutputError, StateError
from cedkv.lm import log_probs
from cedkv.methods import extract
from cedkv.state.hub import card, load_folder, push, save_folder
from tests.export.test_plain_transformers import state_of
from tests.tiny import QUERY_TEXTS, tiny_lm

META = {
    "task": "past",
    "method": "ced",
    "model": "tiny",
    "template": "Q: {input}\nA: {output}\n\n",
    "metrics": {"train_kl": 0.0312},
    "settings": {"phase2": {"model": {"id": "someone/some-model"}}},
}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text"])
def test_a_folder_gives_the_same_logits(architecture, tmp_path):
    lm, state = tiny_lm(architecture), replace(state_of(architecture), meta=META)
    save_folder(state, tmp_path / "shared")
    read = load_folder(tmp_path / "shared", lm.fingerprint)
    queries = [lm.encode(text) for text in QUERY_TEXTS]
    assert log_probs(lm, queries, read).equal(log_probs(lm, queries, state))
    assert read.meta == META


def test_the_card_says_what_the_state_is():
    text = card(replace(state_of("llama"), meta=META))
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["base_model"] == "someone/some-model"
    assert "cedkv" in front["tags"]
    for fact in ("`past`", "`ced`", "0.0312", tiny_lm("llama").fingerprint, "8 (4 layers, 2 key/value heads, 16"):
        assert fact in text


def test_the_card_beside_an_extracted_state_shows_the_metrics_in_its_file(tmp_path):
    lm = tiny_lm("llama")
    config = load_config(None, ["episode.task=capitalize", "episode.demos=4", "episode.on_train=4"])
    state = extract(lm, episode_from_config(lm, config), "select", 6, config).prefix
    folder = save_folder(state, tmp_path / "shared", "int8")
    metrics = load_folder(folder, lm.fingerprint).meta["metrics"]
    assert metrics == state.meta["metrics"] and metrics.keys() == {"train_kl", "train_agreement"}
    rows = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    for name, value in metrics.items():
        assert f"| {name.replace('_', ' ')} | `{value:.4g}` |" in rows


def test_a_card_of_anything_stays_a_table():
    text = card(replace(state_of("llama"), meta={"task": "a|b`\n# c <script>", "template": "`|\n"}))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(line.count("|") == 3 for line in rows)
    assert "<script>" not in text
    assert "base_model" not in text


def test_folders_without_a_state_are_refused(tmp_path):
    with pytest.raises(StateError, match="cannot be read"):
        load_folder(tmp_path)
    with pytest.raises(StateError, match="no folder and cannot be had from the hub"):
        load_folder("nobody/nothing")
    with pytest.raises(OutputError, match="'nobody/nothing' cannot be written"):
        push(tmp_path, "nobody/nothing")
