"""The connector's own reader: what the project wrote, and nothing that was touched since."""

import json
from dataclasses import replace

import pytest
import torch

from cedkv.serve.vllm_connector.client import Handle
from cedkv.serve.vllm_connector.errors import Refused
from cedkv.serve.vllm_connector.folder import StateFolder
from cedkv.serve.vllm_connector.model import check_files
from cedkv.serve.vllm_connector.state import read_state
from cedkv.state import KVPrefix
from cedkv.state.container import open_container, write_container
from tests.export.test_plain_transformers import state_of
from tests.serve.conftest import SHAPE, with_gaps
from tests.tiny import tiny_folder, tiny_path


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_state_is_read_as_the_project_reads_it(tmp_path, precision):
    path = tmp_path / "past.safetensors"
    with_gaps(state_of("llama")).save(path, precision)
    own, read = KVPrefix.load(path), read_state(path)
    on = own.active.all(0)
    assert read.slots == 7 and read.fingerprint == own.fingerprint
    assert read.keys.equal(own.keys[:, :, on]) and read.values.equal(own.values[:, :, on])
    assert read.positions.tolist() == [2 - 60, 5 - 60, 8 - 60, 11 - 60, 17 - 60, 20 - 60, 23 - 60]


def test_every_byte_of_a_state_counts(tmp_path):
    path = tmp_path / "past.safetensors"
    state_of("llama", slots=2).save(path)
    whole = path.read_bytes()
    read_state(path)
    for place in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(Refused):
            read_state(path)
    for other in (whole[:-1], whole + b" ", whole[:1000], b"", b"{}"):
        path.write_bytes(other)
        with pytest.raises(Refused, match=r"state file 'past\.safetensors'"):
            read_state(path)


REFUSED = {
    "no slot that is switched on": lambda state: state.without(list(range(8))),
    "slot 0 is switched on in some layers only": lambda state: state.with_injection_layers([1, 2]),
}


@pytest.mark.parametrize(("message", "spoil"), REFUSED.items(), ids=REFUSED)
def test_what_a_prompt_cannot_say_is_refused(tmp_path, message, spoil):
    spoil(state_of("llama")).save(tmp_path / "it.safetensors")
    with pytest.raises(Refused, match=message):
        read_state(tmp_path / "it.safetensors")


@pytest.mark.parametrize("field", ["format_version", "dtype", "slots", "layers", "query_start", "checksums"])
@pytest.mark.parametrize("value", [None, [], "x", -1])
def test_a_file_that_was_sealed_again_is_refused_and_nothing_else_happens(tmp_path, field, value):
    path = tmp_path / "it.safetensors"
    state_of("llama", slots=2).save(path)
    with path.open("rb") as file:
        container = open_container(path, file)
        header = json.loads(container.metadata["header"])
        tensors = {name: container.read(name, header["checksums"][name]) for name in container.entries}
    header[field] = value
    write_container(path, tensors, {"format": "cedkv-state", "header": json.dumps(header)})
    with pytest.raises(Refused, match=r"state file 'it\.safetensors'"):
        read_state(path)


def test_integers_are_to_be_exported_first(tmp_path):
    state_of("llama").save(tmp_path / "it.safetensors", "int8")
    with pytest.raises(Refused, match="stored as int8; export it again"):
        read_state(tmp_path / "it.safetensors")


@pytest.mark.parametrize("name", ["../past", "/etc/passwd", "", "past.safetensors/..", ".past", 7, None, "a" * 101])
def test_a_state_has_a_name_and_never_a_path(states, name):
    with pytest.raises(Refused, match="is no name"):
        states.get(name)


def test_a_state_that_is_not_there_or_anothers_is_refused(states, write):
    with pytest.raises(Refused, match="there is no state 'future'"):
        states.get("future")
    replace(state_of("llama"), fingerprint="0" * 32).save(states.folder / "foreign.safetensors")
    with pytest.raises(Refused, match="made with a model of fingerprint 0000"):
        states.get("foreign")
    with pytest.raises(Refused, match="has shape"):
        StateFolder(states.folder, (SHAPE[0], SHAPE[1] + 1, SHAPE[2])).get("past")


def test_a_file_that_changes_is_read_again(states):
    before = states.get("past")
    assert states.get("past") is before
    state_of("llama", slots=3).save(states.folder / "past.safetensors")
    after = states.get("past")
    assert after.slots == 3 and after.salt != before.salt
    (states.folder / "past.safetensors").write_bytes(b"nothing")
    with pytest.raises(Refused, match="damaged"):
        states.get("past")


def test_the_model_is_told_by_its_files(states, tmp_path):
    check_files(states.model, tiny_path("llama"))
    other = tiny_folder("llama", tmp_path / "other", seed=1)
    with pytest.raises(Refused, match=r"'model\.safetensors' in the model's folder .* is not the one"):
        check_files(states.model, other)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match="cannot be read"):
        check_files(states.model, tmp_path / "empty")


@pytest.mark.parametrize("content", [None, "", "[]", '{"fingerprint": 1, "files": {}, "placeholder": 0}'])
def test_a_folder_without_its_model_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "model.json").write_text(content)
    with pytest.raises(Refused, match=r"no model\.json that can be read"):
        StateFolder(tmp_path, SHAPE)


def test_two_states_never_share_a_salt(states):
    handles = [Handle.load(states.folder / f"{name}.json") for name in ("past", "short")]
    assert [handle.salt for handle in handles] == [states.get(name).salt for name in ("past", "short")]
    assert len({handle.salt for handle in handles}) == 2 and all(len(handle.salt) <= 128 for handle in handles)
    assert json.loads((states.folder / "past.json").read_text())["slots"] == 8


def test_the_state_is_made_of_plain_tensors(states):
    state = states.get("past")
    assert state.keys.device.type == "cpu" and state.positions.dtype == torch.int64
