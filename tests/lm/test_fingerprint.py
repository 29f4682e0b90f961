"""The fingerprint of a model: the same wherever its answers are, another one where they are not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from cedkv.errors import ModelError
from cedkv.lm import load_model
from cedkv.lm.fingerprint import file_fingerprint, load_fingerprint
from tests.tiny import tiny_folder, tiny_lm, tiny_path, tiny_tokenizer
from tests.tiny_gguf import tiny_gguf

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the tiny llama to change."""
    return shutil.copytree(tiny_path("llama"), tmp_path / "model")


def edit(path: Path, **changes) -> None:
    """Change fields of a JSON file; None takes one away."""
    whole = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({name: value for name, value in whole.items() if value is not None}), encoding="utf-8")


def in_shards(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


def saved_again(folder: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokenizer("cut and filled up", truncation=True, max_length=4, padding="max_length")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def config_of_transformers_4(folder: Path) -> None:
    rope = json.loads((folder / "config.json").read_text(encoding="utf-8"))["rope_parameters"]
    theta, scaling = int(rope.pop("rope_theta")), rope
    edit(folder / "config.json", rope_parameters=None, rope_theta=theta, rope_scaling=scaling, torch_dtype="bfloat16")


def merges_as_text(folder: Path) -> None:
    said = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    said["model"]["merges"] = [" ".join(pair) for pair in said["model"]["merges"]]
    (folder / "tokenizer.json").write_text(json.dumps(said, indent=3), encoding="utf-8")


SAME = {
    "offline setting": lambda folder: edit(folder / "tokenizer_config.json", local_files_only=True, is_local=False),
    "tokenizer class": lambda folder: edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast"),
    "library version": lambda folder: edit(folder / "config.json", transformers_version="4.40.0", dtype="float16"),
    "place": lambda folder: edit(folder / "config.json", _name_or_path="/somewhere/else", use_cache=False),
    "config of transformers 4": config_of_transformers_4,
    "shards": in_shards,
    "saved again": saved_again,
    "older merges": merges_as_text,
    "chat template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
    "generation config": lambda folder: (folder / "generation_config.json").unlink(),
    "weights that are not loaded": lambda folder: torch.save({"a": torch.ones(2)}, folder / "pytorch_model.bin"),
    "other files": lambda folder: (folder / "README.md").write_text("a model"),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_a_library_or_an_environment_writes_has_no_part_in_it(folder, change):
    change(folder)
    assert load_fingerprint(folder) == tiny_lm("llama").fingerprint
    assert load_model(str(folder), device="cpu").fingerprint == tiny_lm("llama").fingerprint


def other_bytes(folder: Path) -> None:
    """One number of one tensor in its last bit."""
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)


def other_normaliser(folder: Path) -> None:
    edit(folder / "tokenizer.json", normalizer={"type": "Lowercase"})


def other_bos(folder: Path) -> None:
    tiny_tokenizer(own_bos=True).save_pretrained(folder)


OTHER = {
    "weights": other_bytes,
    "normaliser": other_normaliser,
    "beginning of text": other_bos,
    "rotation": lambda folder: edit(
        folder / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 500}
    ),
    "norm": lambda folder: edit(folder / "config.json", rms_norm_eps=1e-3),
    "activation": lambda folder: edit(folder / "config.json", hidden_act="gelu"),
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_what_changes_answers_changes_it(folder, change):
    change(folder)
    assert load_fingerprint(folder) != tiny_lm("llama").fingerprint


def in_bin(folder: Path) -> None:
    """The same weights as transformers kept them before safetensors."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def test_weights_in_bin_files_are_covered(folder, tmp_path):
    in_bin(folder)
    other = tiny_folder("llama", tmp_path / "other", seed=1)
    in_bin(other)
    prints = {load_model(str(path), device="cpu").fingerprint for path in (folder, other)}
    assert len(prints) == 2
    (other / "config.json").write_bytes((folder / "config.json").read_bytes())
    shutil.copy(folder / "pytorch_model.bin", other)
    assert load_fingerprint(other) == load_fingerprint(folder)


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has neither model.safetensors nor pytorch_model.bin"):
        load_fingerprint(folder)


LOAD = "import sys; from cedkv.lm import load_model; print(load_model(sys.argv[1], device='cpu').fingerprint)"


@pytest.mark.slow
def test_of_a_gguf_file_it_is_the_same_from_every_cache_and_with_every_offline_setting(tmp_path):
    model, printed, written = tiny_gguf(tmp_path / "tiny.gguf"), set(), set()
    for offline in ("0", "1"):
        # Nothing listens there, so that being online means no waiting.
        outside = {
            "HF_HUB_OFFLINE": offline,
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "CEDKV_CACHE": str(tmp_path / offline),
        }
        command = [sys.executable, "-c", LOAD, model]
        run = subprocess.run(command, cwd=ROOT, env={**os.environ, **outside}, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        printed.add(run.stdout.strip())
        (settings,) = (tmp_path / offline).rglob("tokenizer_config.json")
        written.add(settings.read_text(encoding="utf-8"))
    assert printed == {file_fingerprint(model)}
    assert len(written) == 2, "else this test would not tell anything"


@pytest.fixture
def converted(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A GGUF file and the folder that it was converted into."""
    monkeypatch.setenv("CEDKV_CACHE", str(tmp_path / "cache"))
    model = tiny_gguf(tmp_path / "tiny.gguf")
    load_model(str(model), device="cpu")
    (made,) = (tmp_path / "cache" / "models").iterdir()
    return model, made


def test_a_converted_folder_is_its_files_model_until_it_is_changed(converted):
    model, made = converted
    assert load_fingerprint(made) == file_fingerprint(model)
    edit(made / "tokenizer_config.json", local_files_only=None, anything="else")
    assert load_fingerprint(made) == file_fingerprint(model)
    other_bytes(made)
    assert load_fingerprint(made) != file_fingerprint(model)
    assert load_model(str(model), device="cpu").fingerprint != file_fingerprint(model)


def test_another_version_of_what_converts_makes_a_folder_of_its_own(converted, monkeypatch):
    model, made = converted
    monkeypatch.setattr("cedkv.lm.convert.version", lambda package: "99")
    load_model(str(model), device="cpu")
    assert len(list(made.parent.iterdir())) == 2
