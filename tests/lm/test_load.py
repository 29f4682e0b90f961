"""Loading: what a model is, and one clear line for everything that cannot be loaded."""

import gc
import json
import shutil
import weakref

import gguf
import numpy as np
import pytest
import torch
from transformers import Gemma2Config, GPT2Config

from cedkv.errors import CedKVError, ModelError
from cedkv.lm import cache_root, load_model
from cedkv.lm.architectures import ARCHITECTURES
from cedkv.lm.load import resolve_device
from tests.tiny import HEAD_DIM, KV_HEADS, LAYERS, save_model, tiny_folder, tiny_lm, tiny_path
from tests.tiny_gguf import tiny_gguf


@pytest.fixture
def folder(tmp_path):
    """A copy of the tiny llama to break."""
    return shutil.copytree(tiny_path("llama"), tmp_path / "model")


def refusal(id, **options) -> str:
    """The one line with which loading is refused."""
    with pytest.raises(ModelError) as caught:
        load_model(str(id), **options)
    assert isinstance(caught.value, CedKVError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit_config(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_loaded_model_describes_itself(architecture, tiny):
    assert (tiny.layers, tiny.kv_heads, tiny.head_dim, tiny.context) == (LAYERS, KV_HEADS, HEAD_DIM, 512)
    assert tiny.id == architecture
    assert tiny.dtype == torch.float32
    assert tiny.stop_ids == {1}
    assert tiny.bos == ((0,) if architecture == "gemma3_text" else ())
    assert tiny.encode("walk")[0] != 0, "a bos token belongs to a prompt, not to every piece of text"


def test_loaded_model_is_frozen(tiny):
    assert not tiny.model.training
    assert not any(parameter.requires_grad for parameter in tiny.model.parameters())


def test_decoding_gives_back_the_text(tiny):
    for text in ("Q: lift\nA: lifted\n\n", "  two  spaces , and commas !", "naïve → 日本 🙂"):
        assert tiny.decode(tiny.encode(text)) == text


def test_fingerprint_is_the_same_for_every_load_and_dtype(architecture, tiny):
    for dtype in ("float32", "bfloat16"):
        assert load_model(str(tiny_path(architecture)), dtype=dtype, device="cpu").fingerprint == tiny.fingerprint


def test_fingerprints_of_architectures_differ():
    assert len({tiny_lm(name).fingerprint for name in ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")}) == 5


@pytest.mark.parametrize("id", ["nowhere", "./nowhere", "/nowhere/at/all", "~/nowhere-at-all", "a/b/c"])
def test_missing_model_is_named(id):
    assert id in refusal(id)
    assert "does not exist; give 'embedded', a hub id, a folder or a .gguf file" in refusal(id)


def test_hub_that_cannot_be_reached_is_named():
    assert refusal("nobody/no-such-model").startswith("model 'nobody/no-such-model' cannot be had from the hub: ")


def test_missing_gguf_file_is_named(tmp_path):
    assert "none.gguf' does not exist" in refusal(tmp_path / "none.gguf")


def test_folder_without_config_is_named(tmp_path):
    assert f"model folder {str(tmp_path)!r} has no config.json" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_truncated_file_is_refused(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    assert refusal(folder).startswith(f"model {str(folder)!r} cannot be read from {folder}: ")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_missing_file_is_refused(folder, name):
    (folder / name).unlink()
    assert f"model {str(folder)!r} cannot be read" in refusal(folder)


def test_weights_that_do_not_fill_the_model_are_refused(folder):
    """Otherwise the missing layers would be random numbers."""
    edit_config(folder, num_hidden_layers=LAYERS + 2)
    assert "cannot be read" in refusal(folder)


def test_weights_of_another_shape_are_refused(folder):
    edit_config(folder, intermediate_size=128)
    assert "cannot be read" in refusal(folder)


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"not a gguf file at all" * 100, b"GGUF\x03\x00\x00\x00" + b"\xff" * 64]
)
def test_broken_gguf_file_is_refused_and_leaves_nothing(tmp_path, monkeypatch, content):
    monkeypatch.setenv("CEDKV_CACHE", str(tmp_path / "cache"))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(content)
    assert f"model file {str(broken)!r} cannot be read: " in refusal(broken)
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_attention_that_slots_cannot_stand_in_for_is_refused_with_the_reason(tmp_path):
    folder = save_model(Gemma2Config, tmp_path / "gemma2", num_hidden_layers=1, hidden_size=16, num_attention_heads=2)
    message = refusal(folder)
    assert "'gemma2' is not supported: it caps its attention scores (attn_logit_softcapping)" in message


def test_unsupported_architecture_is_refused_by_name(tmp_path):
    folder = save_model(GPT2Config, tmp_path / "gpt2", n_embd=16, n_layer=1, n_head=2, n_positions=64)
    message = refusal(folder)
    assert "'gpt2' is not supported" in message
    assert f"supported are {', '.join(sorted(ARCHITECTURES))}" in message


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
        {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "factor": 2.0,
            "short_factor": [1.0] * 8,
            "long_factor": [2.0] * 8,
            "original_max_position_embeddings": 256,
        },
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_rotation_that_depends_on_length_is_refused(folder, rope):
    edit_config(folder, rope_parameters=rope)
    assert f"model architecture 'llama' uses {rope['rope_type']!r} rotary embedding" in refusal(folder)


def test_length_dependent_rotation_of_one_layer_type_is_refused(tmp_path):
    types = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
        "full_attention": {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 2.0},
    }
    folder = tiny_folder("gemma3_text", tmp_path / "model", rope_parameters=types)
    assert "'gemma3_text' uses 'dynamic' rotary embedding" in refusal(folder)


def test_another_precision_is_the_model_that_transformers_loads_in_it(architecture, tiny):
    """Weights in bfloat16, rotary frequencies not: rounded, they would turn late tokens too far."""
    loaded = load_model(str(tiny_path(architecture)), dtype="bfloat16", device="cpu").model
    converted = tiny.in_dtype(torch.bfloat16).model
    assert converted.dtype == torch.bfloat16
    assert tiny.dtype == torch.float32
    assert (converted.lm_head.weight is converted.get_input_embeddings().weight) == (
        loaded.lm_head.weight is loaded.get_input_embeddings().weight
    )
    for (name, weight), other in zip(loaded.named_parameters(), converted.parameters(), strict=True):
        assert torch.equal(weight, other), name
    frequencies = {name: buffer for name, buffer in converted.named_buffers() if "inv_freq" in name}
    assert frequencies
    for name, buffer in frequencies.items():
        assert buffer.dtype == torch.float32, name
        assert torch.equal(buffer, loaded.get_buffer(name)), name


def test_another_precision_is_converted_once_and_kept_as_long_as_somebody_has_it(tiny):
    """An extractor's training has a bench for each of hundreds of episodes: a copy for each would fill any memory."""
    converted = tiny.in_dtype(torch.bfloat16)
    assert tiny.in_dtype(torch.bfloat16) is converted
    gone = weakref.ref(converted.model)
    del converted
    gc.collect()
    assert gone() is None
    assert tiny.in_dtype(torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", ["int8", "float64", ""])
def test_unknown_dtype_is_refused(dtype):
    assert refusal("embedded", dtype=dtype) == f"dtype {dtype!r} is unknown; use one of float32, bfloat16, float16"


def test_unknown_device_is_refused():
    assert refusal("embedded", device="tpu") == "device 'tpu' is unknown; use one of auto, cpu, cuda, mps"


def test_missing_device_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refusal("embedded", device="cuda") == "device 'cuda' is not available here; use auto or cpu"


@pytest.mark.parametrize(("cuda", "mps", "expected"), [(1, 1, "cuda"), (0, 1, "mps"), (0, 0, "cpu")])
def test_auto_takes_the_first_accelerator_there_is(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    assert resolve_device("auto") == torch.device(expected)


def test_cache_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("CEDKV_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("CEDKV_CACHE")
    assert cache_root().parts[-2:] == (".cache", "cedkv")


def test_embedded_model_is_smollm2(lm):
    assert (lm.id, lm.layers, lm.kv_heads, lm.head_dim) == ("SmolLM2-135M-Instruct", 30, 3, 64)
    assert lm.bos == ()


def test_a_conversion_is_one_line_and_no_bar(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("CEDKV_CACHE", str(tmp_path / "cache"))
    model = str(tiny_gguf(tmp_path / "tiny.gguf"))
    capfd.readouterr()
    load_model(model, device="cpu")
    told = capfd.readouterr().err
    assert told.startswith("tiny.gguf is converted, once") and told.count("\n") == 1 and "\r" not in told
    load_model(model, device="cpu")
    assert capfd.readouterr().err == ""


def test_a_gguf_file_is_parsed_once_and_from_a_plain_array(tmp_path, monkeypatch):
    """transformers would do it for the settings, the tokenizer and the tensors each; slices of a memmap take longer."""
    parsed, kinds = [], set()

    class Counting(gguf.GGUFReader):
        def __init__(self, *given, **named) -> None:
            parsed.append(given)
            super().__init__(*given, **named)
            kinds.update(type(part) for field in self.fields.values() for part in field.parts)

    monkeypatch.setattr(gguf, "GGUFReader", Counting)
    monkeypatch.setenv("CEDKV_CACHE", str(tmp_path / "cache"))
    load_model(str(tiny_gguf(tmp_path / "tiny.gguf")), device="cpu")
    assert len(parsed) == 1
    assert np.ndarray in kinds and np.memmap not in kinds
    assert gguf.GGUFReader is Counting
