"""Where each supported architecture produces its keys before rotary embedding.

A decoder is supported when its attention is rotary softmax attention without logit soft-capping or learned
sinks, so that a key/value pair put in front of the sequence means the same in every layer. Adding one is a line
here and a line in the test matrix (`tests/tiny.py`).
"""

from dataclasses import dataclass

from transformers import PreTrainedConfig

from cedkv.errors import ModelError


@dataclass(frozen=True)
class KeySource:
    """The submodule of the attention whose output is the pre-RoPE key, and the layout of that output.

    layout : `flat` is `[1, tokens, kv_heads * head_dim]`, `tokens_first` is `[1, tokens, kv_heads, head_dim]`,
        `heads_first` is `[1, kv_heads, tokens, head_dim]`, `fused` is `[1, tokens, (heads + 2 kv_heads) * head_dim]`
        with the keys between queries and values.
    """

    module: str
    layout: str


ARCHITECTURES = {
    "llama": KeySource("k_proj", "flat"),
    "mistral": KeySource("k_proj", "flat"),
    "qwen2": KeySource("k_proj", "flat"),
    "qwen3": KeySource("k_norm", "tokens_first"),
    "gemma3_text": KeySource("k_norm", "heads_first"),
    "olmo2": KeySource("k_norm", "flat"),
    "granite": KeySource("k_proj", "flat"),
    "smollm3": KeySource("k_proj", "flat"),
    "glm4": KeySource("k_proj", "flat"),
    "phi3": KeySource("qkv_proj", "fused"),
    "qwen3_moe": KeySource("k_norm", "tokens_first"),
}
# Attention that no pair of key and value can stand in for, and why.
REFUSED = {
    "gemma2": "caps its attention scores (attn_logit_softcapping), so slots would not add up as tokens do; Gemma 3 "
    "does not and is supported",
    "gpt_oss": "learns attention sinks of its own beside the sequence",
}
# The rotation of these grows with the length of the text, so a slot would not mean the same twice.
LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}


def key_source(config: PreTrainedConfig) -> KeySource:
    """The entry for a model's configuration.

    Raises
    ------
    ModelError
        The architecture is not in the table, or its rotary embedding depends on the text's length.
    """
    if config.model_type in REFUSED:
        raise ModelError(f"model architecture {config.model_type!r} is not supported: it {REFUSED[config.model_type]}")
    if config.model_type not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelError(f"model architecture {config.model_type!r} is not supported; supported are {known}")
    rope = config.rope_parameters
    per_layer_type = rope if "rope_type" not in rope else {"all": rope}
    for parameters in per_layer_type.values():
        if parameters["rope_type"] in LENGTH_DEPENDENT_ROPE:
            raise ModelError(
                f"model architecture {config.model_type!r} uses {parameters['rope_type']!r} rotary embedding, whose "
                "angles depend on the text's length; use a model with default, linear, yarn or llama3 scaling"
            )
    return ARCHITECTURES[config.model_type]


def rotated_layers(config: PreTrainedConfig) -> list[bool]:
    """Which layers have rotary embedding: all, except where a config (SmolLM3's) leaves it out of some."""
    return [bool(uses) for uses in getattr(config, "no_rope_layers", [True] * config.num_hidden_layers)]
