"""Writing a state for another engine. What it cannot carry exactly is refused by name; nothing is approximated."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import safe_open

from cedkv.errors import StateError
from cedkv.files import dump_json, whole_file, write_whole
from cedkv.lm import LanguageModel
from cedkv.lm.export import save_peft, visible_slots
from cedkv.lm.find import find_model
from cedkv.lm.fingerprint import read_source
from cedkv.serve.llama_client import SUFFIX as SEQUENCE_SUFFIX
from cedkv.serve.llama_client import SequenceHandle
from cedkv.serve.llama_cpp import sequence_file
from cedkv.serve.vllm_connector.client import Handle
from cedkv.serve.vllm_connector.errors import Refused
from cedkv.serve.vllm_connector.folder import SUFFIX, check_name
from cedkv.serve.vllm_connector.model import MODEL_FILE, files_of, read_model
from cedkv.serve.vllm_connector.state import read_state
from cedkv.serve.vllm_connector.supported import check_config
from cedkv.state import KVPrefix
from cedkv.state.precision import SCALE_SUFFIX


def export_state(to: str, state_file: str | Path, folder: str | Path, lm: LanguageModel, model_id: str) -> list[Path]:
    """Write a state for an engine.

    Parameters
    ----------
    to : one of `EXPORTS`.
    folder : where to; for vLLM the folder of all states that one server offers.
    lm : the model the state was made with; any other is refused.
    model_id : what `lm` was loaded by, which tells where its files are.

    Returns
    -------
    The files and folders that were written.

    Raises
    ------
    StateError
        The engine cannot carry the state exactly, the state is damaged, or it is another model's.
    OutputError
        The folder cannot be written.
    """
    path = Path(state_file)
    prefix = KVPrefix.load(path, lm.fingerprint)
    if not len(visible_slots(prefix)):
        raise StateError(f"state file {str(path)!r} has no slot that is switched on: there is nothing to export")
    try:
        return EXPORTS[to](prefix, path, Path(folder), lm, model_id)
    except Refused as refusal:
        raise StateError(str(refusal)) from refusal


def _to_vllm(prefix: KVPrefix, path: Path, folder: Path, lm: LanguageModel, model_id: str) -> list[Path]:
    """The state's file, a client's handle of it, and what the connector knows the model by."""
    name = check_name(path.name.removesuffix(SUFFIX))
    check_config(lm.model.config.to_dict())
    model: dict[str, Any] = {
        "fingerprint": lm.fingerprint,
        "files": files_of(find_model(model_id)[0]),
        "placeholder": _placeholder(lm),
    }
    card, target, handle = folder / MODEL_FILE, folder / (name + SUFFIX), folder / f"{name}.json"
    if name == card.stem:
        raise StateError(f"state file {str(path)!r}: its handle would be {MODEL_FILE}; give the file another name")
    if card.is_file() and read_model(folder) != model:
        raise StateError(
            f"folder {str(folder)!r} holds the states of another model; a server has one: choose another --out"
        )
    if _in_integers(path):
        prefix.save(target)
    elif path.resolve() != target.resolve():
        with whole_file(target) as copy:
            shutil.copyfile(path, copy)  # the same bytes, so that the seal stays what it is
    state = read_state(target)
    write_whole(card, dump_json(model))
    write_whole(handle, dump_json(vars(Handle(name, state.slots, model["placeholder"], state.salt))))
    return [card, handle, target]


def _in_integers(path: Path) -> bool:
    with safe_open(path, "pt") as file:
        return any(name.endswith(SCALE_SUFFIX) for name in file.keys())  # noqa: SIM118


def _placeholder(lm: LanguageModel) -> int:
    """A token that no query starts with: the last special one that neither starts, ends nor pads a text."""
    tokenizer = lm.tokenizer
    used = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, *lm.stop_ids}
    special = sorted(set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder))
    spare = [token for token in special if token not in used and token < lm.vocab]
    return (spare or [token for token in special if token < lm.vocab] or [0])[-1]


def _to_transformers(prefix: KVPrefix, path: Path, folder: Path, lm: LanguageModel, model_id: str) -> list[Path]:
    """A prefix-tuning adapter, which `peft` loads into the plain model."""
    save_peft(shifted_to_zero(prefix), folder, lm.model, lm.id)
    return [folder]


def _to_llama_cpp(prefix: KVPrefix, path: Path, folder: Path, lm: LanguageModel, model_id: str) -> list[Path]:
    """A sequence file, and a handle that says which GGUF file it belongs to."""
    source = read_source(find_model(model_id)[0])
    if source is None or source["fingerprint"] != lm.fingerprint:
        raise StateError(
            f"a state for llama.cpp must have been made with a .gguf file, which model {model_id!r} is not; "
            "extract it again with that file as the model"
        )
    placeholder, name = _placeholder(lm), path.name.removesuffix(SUFFIX)
    content = sequence_file(prefix, lm, placeholder)
    file, handle = folder / (name + SEQUENCE_SUFFIX), folder / f"{name}.json"
    with whole_file(file) as writing:
        writing.write_bytes(content)
    sha256, slots = hashlib.sha256(content).hexdigest(), len(visible_slots(prefix))
    SequenceHandle(slots, placeholder, lm.fingerprint, sha256).save(handle)
    return [handle, file]


def shifted_to_zero(prefix: KVPrefix) -> KVPrefix:
    """Slots and query moved to the left until the first slot that is switched on stands at 0.

    That changes no answer: a rotary embedding knows distances, and models whose rotation knows more are refused.
    """
    first = int(prefix.positions[visible_slots(prefix)].min())
    return replace(prefix, positions=prefix.positions - first, query_start=prefix.query_start - first)


Export = Callable[[KVPrefix, Path, Path, LanguageModel, str], list[Path]]
EXPORTS: dict[str, Export] = {"vllm": _to_vllm, "transformers": _to_transformers, "llama.cpp": _to_llama_cpp}
