"""Every door by which a state enters a model, tried with a state that fits by its shape and is another model's."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cedkv.cli import main
from cedkv.errors import CedKVError
from cedkv.gate.run import saved_state
from cedkv.lm import LanguageModel, generate, load_model, log_probs, read_attention, read_behind_each
from cedkv.lm.export import generate_inputs, load_peft, save_peft, to_cache
from cedkv.session.compare import iter_compare
from cedkv.session.limits import Limits
from cedkv.session.slots import with_slot_of
from cedkv.session.upload import open_files
from cedkv.state import KVPrefix
from cedkv.state.cache import StateCache
from cedkv.state.compose import compose
from cedkv.state.hub import load_folder, save_folder
from tests.export.test_plain_transformers import state_of
from tests.tiny import plain_model, tiny_folder, tiny_lm, tiny_path

ROOT = Path(__file__).resolve().parents[2]
LM, MODEL, QUERY = tiny_lm("llama"), plain_model("llama"), [5, 6]


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> LanguageModel:
    """A model of the same shape with other weights."""
    return load_model(str(tiny_folder("llama", tmp_path_factory.mktemp("other") / "model", seed=1)), device="cpu")


@pytest.fixture
def foreign(other) -> KVPrefix:
    return replace(state_of("llama"), fingerprint=other.fingerprint)


@pytest.fixture
def file(foreign, tmp_path) -> Path:
    foreign.save(tmp_path / "state.safetensors")
    return tmp_path / "state.safetensors"


def through_peft(state: KVPrefix, file: Path) -> None:
    """An adapter that the other model's owner wrote."""
    folder = file.parent / "adapter"
    save_peft(replace(state, fingerprint=LM.fingerprint), folder, MODEL)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(LM.fingerprint.encode(), state.fingerprint.encode()))
    load_peft(folder, MODEL)


DOORS = {
    "log_probs": lambda state, file: log_probs(LM, [QUERY], state),
    "generate": lambda state, file: generate(LM, [QUERY], state),
    "read_behind_each": lambda state, file: read_behind_each(LM, QUERY, [None, state]),
    "read_attention": lambda state, file: read_attention(LM, [QUERY], state),
    "compare": lambda state, file: list(
        iter_compare(LM, "rain", {"base": None, "teacher": state_of("llama"), "student": state})
    ),
    "compose": lambda state, file: compose(state_of("llama"), state),
    "composed": lambda state, file: log_probs(LM, [QUERY], compose(state, state)),
    "slot swap": lambda state, file: with_slot_of(state_of("llama"), 0, state, 0),
    "load": lambda state, file: KVPrefix.load(file, LM.fingerprint),
    "looked at, then used": lambda state, file: log_probs(LM, [QUERY], KVPrefix.load(file)),
    "gate": lambda state, file: saved_state(file, LM, "int8"),
    "to_cache": lambda state, file: to_cache(state, MODEL),
    "generate_inputs": lambda state, file: generate_inputs(state, MODEL, [QUERY]),
    "save_peft": lambda state, file: save_peft(state, file.parent / "adapter", MODEL),
    "load_peft": through_peft,
    "hub": lambda state, file: load_folder(save_folder(state, file.parent / "shared"), LM.fingerprint),
    "hub, then used": lambda state, file: to_cache(load_folder(save_folder(state, file.parent / "shared")), MODEL),
    "upload": lambda state, file: open_files([file], [file.name], file.parent, lambda config: LM, Limits()),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a_state_of_another_model_is_refused_at(door, foreign, file):
    with pytest.raises(CedKVError, match=f"{foreign.fingerprint}|of the same model") as refused:
        door(foreign, file)
    assert "\n" not in str(refused.value)
    assert not (file.parent / "adapter" / "adapter_config.json").exists() or door is through_peft


# What comes through a door, as far as it tells that the state is behind it.
THROUGH = {
    "log_probs": lambda said, own, folder: not torch.allclose(said, log_probs(LM, [QUERY]), atol=1e-2),
    "compose": lambda both, own, folder: both.slots == 2 * own.slots,
    "load": lambda read, own, folder: torch.equal(read.keys, own.keys) and torch.equal(read.values, own.values),
    "to_cache": lambda cache, own, folder: cache.get_seq_length() == own.slots,
    "save_peft": lambda none, own, folder: torch.allclose(
        load_peft(folder / "adapter", MODEL).values, own.values, atol=1e-5
    ),
}


@pytest.mark.parametrize("door", THROUGH)
def test_a_state_of_the_model_itself_is_let_in_at(door, tmp_path):
    own = state_of("llama")
    own.save(tmp_path / "state.safetensors")
    assert THROUGH[door](DOORS[door](own, tmp_path / "state.safetensors"), own, tmp_path)


@pytest.mark.parametrize("command", ["query", "gate"])
def test_a_state_of_another_model_is_refused_by_the_command(command, foreign, file, capsys):
    rest = {"query": ["rain"], "gate": ["--out", str(file.parent / "runs")]}[command]
    assert main([command, "--state", str(file), "--model", str(tiny_path("llama")), *rest]) == 2
    assert foreign.fingerprint in capsys.readouterr().err


def test_a_state_of_another_model_is_refused_by_the_example_for_plain_transformers(foreign, file, monkeypatch):
    example = ROOT / "examples/plain_transformers.py"
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder not in ("", str(ROOT))])
    monkeypatch.setattr(sys, "argv", [str(example), str(file), str(tiny_path("llama")), "rain"])
    with pytest.raises(CedKVError, match=foreign.fingerprint):
        runpy.run_path(str(example), run_name="__main__")


def test_a_state_of_another_model_is_no_entry_of_the_cache_of_extractions(foreign, other, tmp_path):
    cache = StateCache(tmp_path)
    cache.put("key", foreign)
    assert cache.get("key", other.fingerprint) is not None
    assert cache.get("key", LM.fingerprint) is None
