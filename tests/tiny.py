"""Tiny models of the real classes: random weights, a real byte-level BPE tokenizer, saved and loaded like any other.

Their weights are drawn wide, so that next-token distributions are far from uniform and a wrong mask, position or key
shows. Their windows are shorter than the tests' texts, so sliding layers really slide.
"""

import copy
import functools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    Glm4Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
)

from cedkv.lm import LanguageModel, load_model
from cedkv.state import DemoTokens

LAYERS, KV_HEADS, HEAD_DIM = 4, 2, 16
BOS, EOS = "<bos>", "<eos>"
PAIRS = [
    ("lift", "lifted"),
    ("walk", "walked"),
    ("jump", "jumped"),
    ("open", "opened"),
    ("bake", "baked"),
    ("call", "called"),
    ("rain", "rained"),
    ("play", "played"),
]
# A chat template with a system turn of its own, as ChatML writes one.
CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}{{ '<bos>system\\nYou help.<eos>\\n' }}{% endif %}"
    "{{ '<bos>' + message['role'] + '\\n' + message['content'] + '<eos>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<bos>assistant\\n' }}{% endif %}"
)
DEMO_TEXT = "".join(f"Q: {source}\nA: {target}\n\n" for source, target in PAIRS[:5])
QUERY_TEXTS = ["Q: rain\nA:", "Q: play\nA:", "once upon a time there was a tall king who lived by the sea", "7"]

_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
_YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
_GEMMA_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 100000.0, "factor": 8.0},
}
_CONFIGS = {
    "llama": (LlamaConfig, {"rope_parameters": _LLAMA3, "tie_word_embeddings": True}),
    "mistral": (MistralConfig, {"sliding_window": 24}),
    "qwen2": (Qwen2Config, {"rope_parameters": _YARN}),
    "qwen3": (Qwen3Config, {}),
    "gemma3_text": (
        Gemma3TextConfig,
        {
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "rope_parameters": _GEMMA_ROPE,
            "query_pre_attn_scalar": 16,
        },
    ),
    "olmo2": (Olmo2Config, {}),
    "granite": (GraniteConfig, {"attention_multiplier": 0.2, "embedding_multiplier": 3.0, "residual_multiplier": 0.5}),
    # Two layers in four without rotary embedding; one of each kind slides.
    "smollm3": (
        SmolLM3Config,
        {
            "no_rope_layers": [1, 0, 1, 0],
            "use_sliding_window": True,
            "sliding_window": 24,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "full_attention"],
        },
    ),
    "glm4": (Glm4Config, {"partial_rotary_factor": 0.5}),
    "phi3": (Phi3Config, {"sliding_window": 24, "partial_rotary_factor": 0.5}),
    # Every token goes to both experts: where a router changes its mind, a finite difference is no derivative.
    "qwen3_moe": (Qwen3MoeConfig, {"num_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 48}),
}
ARCHITECTURES = tuple(_CONFIGS)


def tiny_folder(architecture: str, path: Path, seed: int = 0, **settings) -> Path:
    """Save a tiny model and its tokenizer; `settings` go into its config."""
    config_class, own = _CONFIGS[architecture]
    return save_model(config_class, path, seed, own_bos=architecture == "gemma3_text", **{**_SIZES, **own, **settings})


def save_model(
    config_class: type[PreTrainedConfig], path: Path, seed: int = 0, own_bos: bool = False, **settings
) -> Path:
    """Save a random model of any causal class with the tiny tokenizer."""
    tokenizer = tiny_tokenizer(own_bos)
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config_class(**tokens, **settings))
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms and biases, which start at one and at zero
                parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@functools.cache
def tiny_tokenizer(own_bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE with some merges; with `own_bos` it starts every text with a bos token by itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # The last lines make the merges `=>!` and `unlock` that the tests of token roles need.
    corpus = [DEMO_TEXT, *QUERY_TEXTS, *(f"{source} -> {target}\n" for source, target in PAIRS)]
    tokenizer.train_from_iterator([*corpus, *["hey=>!\n", "lock, unlock\n"] * 20], trainer)
    if own_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=EOS)


@functools.cache
def _session_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="cedkv-tiny-")


@functools.cache
def tiny_path(architecture: str) -> Path:
    """The folder of the session's tiny model of an architecture."""
    return tiny_folder(architecture, Path(_session_folder().name) / architecture)


@functools.cache
def tiny_lm(architecture: str = "llama") -> LanguageModel:
    """The session's tiny model of an architecture, in fp32 on the CPU."""
    return load_model(str(tiny_path(architecture)), device="cpu")


def chat_lm(architecture: str = "llama", chat_template: str = CHATML) -> LanguageModel:
    """The session's tiny model with a tokenizer that has a chat template."""
    lm = tiny_lm(architecture)
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.chat_template = chat_template
    return replace(lm, tokenizer=tokenizer)


@functools.cache
def plain_model(architecture: str) -> PreTrainedModel:
    """The same weights in transformers alone, with its textbook attention: the reference that owes us nothing."""
    return AutoModelForCausalLM.from_pretrained(tiny_path(architecture), attn_implementation="eager").eval()


def text_tokens(lm: LanguageModel, text: str = DEMO_TEXT) -> DemoTokens:
    """A text as one demonstration, each of its tokens an input."""
    ids = [*lm.bos, *lm.encode(text)]
    texts = tuple(lm.decode([token]) for token in ids)
    demo = (-1,) * len(lm.bos) + (0,) * (len(ids) - len(lm.bos))
    return DemoTokens(tuple(ids), texts, ("input",) * len(ids), demo)


@torch.no_grad()
def plain_log_probs(architecture: str, ids: Sequence[int]) -> Float[Tensor, " vocab"]:
    """The reference's next-token log-probabilities after a whole prompt."""
    return plain_model(architecture)(torch.tensor([list(ids)])).logits[0, -1].log_softmax(dim=-1)
