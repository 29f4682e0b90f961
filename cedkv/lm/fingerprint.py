"""The fingerprint of a model: which states belong to it. Told by content that changes answers, and by nothing else.

What a library's version or an environment writes into a model's folder, the number of files its weights lie in and
the place it is kept at have no part in it; of weights in `.bin` files, which are pickles, the bytes of each file count,
and so does their number. A folder that `cedkv.lm.convert` made of a GGUF file has that file's.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from cedkv.errors import ModelError, first_line

# What the supported architectures compute with, as transformers resolves it from whichever form a file has.
# Precision, caching, token ids and initialisation are left out: no answer to given tokens follows from them.
_CONFIG_FIELDS = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "rms_norm_eps",
    "rope_parameters",
    "max_position_embeddings",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "layer_types",
    "tie_word_embeddings",
    "query_pre_attn_scalar",
    "final_logit_softcapping",
    "attn_logit_softcapping",
    "use_bidirectional_attention",
    "attention_multiplier",
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
    "no_rope_layers",
    "num_experts_per_tok",
    "norm_topk_prob",
)
# In the order in which transformers looks for them; only the first that is there is loaded.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
# How the last caller wanted texts cut and filled up, which transformers keeps in the file.
_CALLERS = ("version", "truncation", "padding")
# Spaces, line ends, digits, accents and letters of other scripts: where tokenizers of one vocabulary differ.
_PROBE = " A word,  two spaces\nlines\r\n\tand 1234.5 signs: Straße, naïve, ﬁ, 日本, 🙂 <s></s>"
_SOURCE_FILE = "cedkv_source.json"
# What a LoRA adapter computes with besides its tensors.
_ADAPTER_FIELDS = ("peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "fan_in_fan_out")


def model_fingerprint(folder: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> str:
    """The fingerprint of the model in a folder, of which config and tokenizer have been loaded.

    Raises
    ------
    ModelError
        The folder has no weights, or they cannot be read.
    """
    content = content_fingerprint(folder, config, tokenizer)
    source = read_source(folder)
    if source is None:
        return content
    # A converted model that was changed since is one of its own.
    return source["fingerprint"] if source["content"] == content else content


def load_fingerprint(folder: Path) -> str:
    """`model_fingerprint` of a folder of which nothing has been loaded."""
    try:
        config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers and tokenizers raise many kinds for a broken or missing file
        raise ModelError(f"model folder {str(folder)!r} cannot be read: {first_line(error)}") from error
    return model_fingerprint(folder, config, tokenizer)


def write_source(folder: Path, fingerprint: str) -> None:
    """Note in a folder which model the one in it was made of."""
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    source = {"fingerprint": fingerprint, "content": content_fingerprint(folder, config, tokenizer)}
    (folder / _SOURCE_FILE).write_text(json.dumps(source), encoding="utf-8")


def read_source(folder: Path) -> dict[str, str] | None:
    """What `write_source` noted in a folder: the `fingerprint` of the file, and of the `content` made of it."""
    try:
        return json.loads((folder / _SOURCE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def file_fingerprint(path: Path) -> str:
    """The fingerprint of a model that is one file: of its bytes."""
    return _digest({"file": _file_digest(path)})


def adapted_fingerprint(model: str, folder: Path) -> str:
    """The fingerprint of a model, given its own, that the PEFT adapter in a folder has been merged into."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    fields = {name: config.get(name) for name in _ADAPTER_FIELDS}
    return _digest({"model": model, "adapter": _tensors(folder / "adapter_model.safetensors"), "config": fields})


def content_fingerprint(folder: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over a folder's tensors, the config's fields that compute, the vocabulary and how a text is cut."""
    fields = {name: getattr(config, name, None) for name in _CONFIG_FIELDS}
    vocabularies = {name: _vocabulary(folder / name) for name in _VOCABULARIES if (folder / name).is_file()}
    if "tokenizer.json" in vocabularies:  # the others are then not read
        vocabularies = {"tokenizer.json": vocabularies["tokenizer.json"]}
    try:
        weights = _weights(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"weights in {str(folder)!r} cannot be read: {first_line(error)}") from error
    return _digest(
        {"config": fields, "weights": weights, "vocabulary": vocabularies, "probe": tokenizer(_PROBE)["input_ids"]}
    )


def _weights(folder: Path) -> dict[str, Any]:
    """What tells the weights apart that transformers loads from a folder: each tensor, or the bytes of `.bin` files.

    A `.bin` file is a pickle, and nothing is unpickled for this.
    """
    for single in _WEIGHTS:
        index = folder / f"{single}.index.json"
        if (folder / single).is_file():
            files = [single]
        elif index.is_file():
            files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        else:
            continue
        if single.endswith(".bin"):
            return {name: _file_digest(folder / name) for name in files}
        return {name: tensor for file in files for name, tensor in _tensors(folder / file).items()}
    raise ModelError(f"model folder {str(folder)!r} has neither {' nor '.join(_WEIGHTS)}")


def _tensors(path: Path) -> dict[str, list[Any]]:
    """Type, shape and SHA-256 of every tensor in a safetensors file."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        found = {}
        for name, entry in header.items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                file.seek(8 + size + start)
                found[name] = [entry["dtype"], entry["shape"], hashlib.sha256(file.read(end - start)).hexdigest()]
    return found


def _vocabulary(path: Path) -> Any:
    """A vocabulary file: `tokenizer.json` by what it says, any other by its bytes."""
    if path.name != "tokenizer.json":
        return _file_digest(path)
    said = {name: part for name, part in json.loads(path.read_bytes()).items() if name not in _CALLERS}
    merges = said.get("model", {}).get("merges", [])
    # Older files have each merge as one text.
    said["model"] = {**said["model"], "merges": [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]}
    return said


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(_plain(content), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(content: Any) -> Any:
    """The same content whether a number was written `1` or `1.0`, and a field as null, as false or not at all."""
    if isinstance(content, dict):
        return {str(name): _plain(value) for name, value in content.items() if value is not None and value is not False}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return float(content) if type(content) is int else content


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
