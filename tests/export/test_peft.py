"""A state as a PEFT prefix-tuning adapter: PEFT itself loads it, with the same logits, and back again."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from cedkv.errors import OutputError, StateError
from cedkv.lm import log_probs
from cedkv.lm.export import load_peft, save_peft
from tests.export.test_plain_transformers import TOLERANCE, state_of
from tests.tiny import QUERY_TEXTS, plain_model, tiny_lm, tiny_path


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text"])
@torch.no_grad()
def test_peft_loads_the_adapter_and_gives_the_engines_logits(architecture, tmp_path):
    lm, state = tiny_lm(architecture), state_of(architecture)
    save_peft(state, tmp_path, plain_model(architecture), "tiny")
    # PEFT takes the model it is given as its own, so it gets one that no other test uses.
    model = AutoModelForCausalLM.from_pretrained(tiny_path(architecture), attn_implementation="eager").eval()
    adapted = PeftModel.from_pretrained(model, tmp_path).eval()
    for text in QUERY_TEXTS[:2]:
        ids = torch.tensor([lm.encode(text)])
        logits = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        assert torch.allclose(logits.log_softmax(-1), log_probs(lm, ids.tolist(), state)[0], atol=TOLERANCE), text


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text"])
def test_export_and_import_give_the_state_back(architecture, tmp_path):
    """Yarn lengthens keys and Gemma turns each layer type by its own angles; both are undone."""
    lm, state = tiny_lm(architecture), state_of(architecture)
    save_peft(state, tmp_path, plain_model(architecture))
    read = load_peft(tmp_path, plain_model(architecture))
    assert torch.allclose(read.keys, state.keys, atol=1e-4)
    assert torch.equal(read.values, state.values)
    assert (read.positions.tolist(), read.query_start) == (list(range(8)), 8)
    queries = [lm.encode(text) for text in QUERY_TEXTS]
    assert torch.allclose(log_probs(lm, queries, read), log_probs(lm, queries, state), atol=1e-4)


def test_states_that_peft_cannot_express_are_refused(tmp_path):
    with pytest.raises(StateError, match="extract with positioning_mode: compact"):
        save_peft(state_of("llama", "absolute"), tmp_path, plain_model("llama"))
    with pytest.raises(StateError, match="some layers only"):
        save_peft(state_of("llama").with_injection_layers([0]), tmp_path, plain_model("llama"))
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_appears_whole_and_a_failed_one_leaves_what_was_there(tmp_path, monkeypatch):
    save_peft(state_of("llama"), tmp_path, plain_model("llama"), "first")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == {"adapter_config.json", "adapter_model.safetensors"}

    def full(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr("cedkv.lm.export.save_file", full)
    with pytest.raises(OutputError, match="no space left"):
        save_peft(state_of("llama"), tmp_path, plain_model("llama"), "second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folders_that_are_no_prefix_adapter_are_refused(tmp_path):
    model = plain_model("llama")
    with pytest.raises(StateError, match="cannot be read"):
        load_peft(tmp_path, model)
    save_peft(state_of("llama"), tmp_path, model)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    with pytest.raises(StateError, match="the model needs"):
        load_peft(tmp_path, type("Other", (), {"config": tiny_config(layers=2), "model": model.model}))
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "LORA"}), encoding="utf-8")
    with pytest.raises(StateError, match="'LORA', not PREFIX_TUNING"):
        load_peft(tmp_path, model)


def tiny_config(layers: int):
    from transformers import LlamaConfig

    return LlamaConfig(num_hidden_layers=layers, num_key_value_heads=2)
