"""Loading a frozen causal language model: the embedded default, a hub id, a local folder or a `.gguf` file."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast
from weakref import WeakValueDictionary

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from cedkv.errors import DemoError, ModelError, first_line
from cedkv.lm.architectures import KeySource, key_source
from cedkv.lm.attention import PACKED_ATTENTION
from cedkv.lm.decoder import Decoder
from cedkv.lm.find import EMBEDDED, find_model
from cedkv.lm.fingerprint import model_fingerprint
from cedkv.report import ModelBlock

# A bar per load would end up in everybody's logs.
disable_progress_bar()

# Some chat templates write today's date, and a state must mean the same tomorrow: the day that Llama 3.1's writes.
_CHAT_DAY = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


@dataclass(frozen=True)
class LanguageModel:
    """A loaded, frozen model and everything the engine asks of it. Passed around as a value."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    id: str
    fingerprint: str
    # Of other precisions, as long as somebody has them: every bench that trains takes the same one.
    _converted: WeakValueDictionary[torch.dtype, "LanguageModel"] = field(
        default_factory=WeakValueDictionary, init=False, repr=False, compare=False
    )

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
        """The model to train slots on, in `training_dtype`."""
        return self.in_dtype(self.training_dtype(dtype))

    def training_dtype(self, dtype: str) -> torch.dtype:
        """What slots are trained in: `model` as it is, `bfloat16`, or `auto`, bfloat16 where it is native."""
        native = self.device.type == "cuda" or (self.device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
        return torch.bfloat16 if dtype == "bfloat16" or (dtype == "auto" and native) else self.dtype

    def in_dtype(self, dtype: torch.dtype) -> "LanguageModel":
        """The same model with weights of another precision; itself when it already has that one.

        Buffers keep theirs, as when transformers loads a model in `dtype`: rotary frequencies rounded to bfloat16
        would turn a token at position 80 by a tenth of a radian too far.
        """
        if dtype == self.dtype:
            return self
        converted = self._converted.get(dtype)
        if converted is None:
            weights = {id(weight): torch.nn.Parameter(weight.to(dtype), False) for weight in self.model.parameters()}
            converted = self._converted[dtype] = replace(self, model=copy.deepcopy(self.model, weights))
        return converted

    @cached_property
    def key_source(self) -> KeySource:
        return key_source(self.model.config)

    @property
    def vocab(self) -> int:
        return self.model.config.vocab_size

    def describe(self) -> ModelBlock:
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
        """Token ids of a text, without the tokenizer's own beginning-of-text token.

        Raises
        ------
        DemoError
            The text holds half of a character (a lone surrogate), which no tokenizer takes.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DemoError(f"the text {text!a:.60} holds half of a character; write the whole one") from error
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def converse(self, said: Sequence[str], ask: bool) -> str:
        """A conversation as the tokenizer's chat template writes it, without the text of `bos`.

        Parameters
        ----------
        said : what user and assistant say in turn, the user first.
        ask : the assistant's next turn is opened.

        Raises
        ------
        DemoError
            The tokenizer has no chat template, or its template refuses the conversation.
        """
        if not self.tokenizer.chat_template:
            raise DemoError(
                f"the tokenizer of {self.id} has no chat template; use an instruct model or a template of plain text"
            )
        turns = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(said)]
        try:
            text = self.tokenizer.apply_chat_template(
                turns,
                chat_template=_CHAT_DAY + self.tokenizer.get_chat_template(),
                tokenize=False,
                add_generation_prompt=ask,
                enable_thinking=False,
            )
        except Exception as error:  # a template is a program: it may raise anything
            raise DemoError(f"the chat template of {self.id} cannot be used: {first_line(error)}") from error
        return cast(str, text).removeprefix(self.decode(list(self.bos)))

    def decode(self, ids: Sequence[int]) -> str:
        return cast(str, self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


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
    folder, name = find_model(id)
    try:
        config = AutoConfig.from_pretrained(folder)
        key_source(config)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=DTYPES[dtype],
            attn_implementation=PACKED_ATTENTION,
            output_loading_info=True,
        )
        model, loading = loaded
    except ModelError:
        raise
    except Exception as error:  # transformers, safetensors and tokenizers raise many kinds for a broken file
        raise ModelError(f"model {id!r} cannot be read from {folder}: {first_line(error)}") from error
    if loading["missing_keys"]:  # transformers would go on with random numbers in their place
        missing = sorted(loading["missing_keys"])
        raise ModelError(
            f"model {id!r} cannot be read from {folder}: {len(missing)} weights are missing, {missing[0]!r} first; "
            "fetch the whole model again"
        )
    model.requires_grad_(False).eval().to(where)
    return LanguageModel(model, tokenizer, name, model_fingerprint(folder, config, tokenizer))


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
