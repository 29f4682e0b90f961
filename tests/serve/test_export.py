"""`serve export`: what an engine can carry exactly is written, all else is refused by name."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from cedkv.cli import main
from cedkv.errors import StateError
from cedkv.lm import log_probs
from cedkv.serve import vllm_connector
from cedkv.serve.vllm_connector.state import read_state
from cedkv.state import KVPrefix
from tests.export.test_plain_transformers import state_of
from tests.serve.uncarried import NO_ENGINE_CARRIES
from tests.tiny import QUERY_TEXTS, tiny_folder, tiny_lm, tiny_path
from tests.tolerance import FORWARD


def test_a_state_goes_to_vllm_byte_for_byte(write, tmp_path):
    out = write(state_of("llama"))
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "past.json", "past.safetensors"]
    assert (out / "past.safetensors").read_bytes() == (tmp_path / "past.safetensors").read_bytes()


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_integers_go_to_vllm_as_the_numbers_they_stand_for(write, tmp_path, precision):
    out = write(state_of("llama"), precision=precision)
    stored = KVPrefix.load(tmp_path / "past.safetensors")
    read = read_state(out / "past.safetensors")
    assert read.keys.equal(stored.keys) and read.values.equal(stored.values)


def test_a_folder_is_of_one_model(write, tmp_path):
    out = write(state_of("llama"))
    card = (out / "model.json").read_text()
    (out / "model.json").write_text(card.replace(tiny_lm("llama").fingerprint, "0" * 32))
    with pytest.raises(StateError, match="holds the states of another model"):
        write(state_of("llama"), "other")
    assert not (out / "other.safetensors").exists()


@pytest.mark.parametrize("to", ["vllm", "transformers"])
@NO_ENGINE_CARRIES
def test_what_an_engine_cannot_carry_is_refused(write, tmp_path, to, spoil, message):
    with pytest.raises(StateError, match=message):
        write(spoil(state_of("llama")), to=to)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("architecture", "name"), [("mistral", "sliding window"), ("gemma3_text", "gemma3_text")])
def test_a_model_that_vllm_could_not_serve_exactly_is_refused(write, tmp_path, architecture, name):
    with pytest.raises(StateError, match=name):
        write(state_of(architecture), architecture=architecture)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a name", "model", "-past"])
def test_a_file_whose_name_is_no_name_for_a_state_is_refused(write, name):
    with pytest.raises(StateError, match=r"is no name|its handle would be model\.json"):
        write(state_of("llama"), name)


@torch.no_grad()
def test_absolute_positions_go_to_plain_transformers_by_a_shift(write):
    lm, state = tiny_lm("llama"), state_of("llama", "absolute")
    assert state.query_start > 8
    adapter = write(state, to="transformers")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_path("llama")), adapter).eval()
    for text in QUERY_TEXTS:
        ids = lm.encode(text)
        row = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        assert torch.allclose(row, log_probs(lm, [ids], state)[0], **FORWARD), text


def test_positions_that_no_shift_expresses_are_refused(write):
    gaps = replace(state_of("llama"), positions=torch.arange(8) * 2, query_start=20)
    with pytest.raises(StateError, match="cannot be a PEFT prefix"):
        write(gaps, to="transformers")


def test_the_command_writes_and_names_what_it_wrote(tmp_path, capsys):
    state_of("llama").save(tmp_path / "past.safetensors")
    arguments = ["--state", str(tmp_path / "past.safetensors"), "--model", str(tiny_path("llama"))]
    assert main(["serve", "export", "--to", "vllm", *arguments, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out" / "past.safetensors")


def test_the_command_refuses_another_models_state(tmp_path, capsys):
    state_of("llama").save(tmp_path / "past.safetensors")
    other = tiny_folder("llama", tmp_path / "other", seed=1)
    arguments = ["--state", str(tmp_path / "past.safetensors"), "--model", str(other), "--out", str(tmp_path / "out")]
    assert main(["serve", "export", "--to", "vllm", *arguments]) == 2
    assert "load the model it was made for" in capsys.readouterr().err


def test_the_connector_is_a_package_of_its_own():
    """It is installed beside vLLM, without the rest: it imports itself, torch and vLLM; its client not even those."""
    folder = Path(vllm_connector.__file__).parent
    for file in folder.glob("*.py"):
        absolute = {
            name.partition(".")[0]
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
        }
        levels = {node.level for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)}
        assert absolute.isdisjoint({"cedkv", "transformers", "safetensors"}) and levels <= {0, 1}, file.name
        assert file.name != "client.py" or absolute <= {"json", "collections", "dataclasses", "pathlib", "typing"}
