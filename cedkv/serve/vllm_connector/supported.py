"""Which models a state can be served with, told from their config: what writes states for vLLM asks it, and the engine.

A state's keys are turned once, to where vLLM's prompt has them, and stay in the cache as tokens do. That is exact where
every layer attends to all that came before, and where a rotation depends on distance alone.
"""

from collections.abc import Mapping
from typing import Any

from .errors import Refused

# Those whose attention in vLLM asks `get_rope` for the config's own `rope_parameters` and nothing else.
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
ROPE_TYPES = ("default", "linear", "llama3", "yarn")


def rope_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary embedding of a config, whichever way it is written there."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_type", rope.get("type", "default"))
    return rope


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse a model whose states the connector could not serve exactly.

    Parameters
    ----------
    config : the content of the model's `config.json`.

    Raises
    ------
    Refused
        Its architecture, rotary embedding or attention is another.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise Refused(f"model architecture {kind!r} is not served; served are {', '.join(ARCHITECTURES)}")
    rope = rope_of(config)
    if rope["rope_type"] not in ROPE_TYPES or "mrope_section" in rope:
        raise Refused(
            f"rotary embedding {rope['rope_type']!r} is not served: a state would not mean the same at another length; "
            f"served are {', '.join(ROPE_TYPES)}"
        )
    if rope.get("partial_rotary_factor", config.get("partial_rotary_factor") or 1.0) != 1.0:
        raise Refused("rotary embedding of a part of each key is not served; use a model that turns all of it")
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        raise Refused(
            f"attention with a sliding window ({config['sliding_window']} tokens) is not served: a long text would "
            "push the slots out of view; use a model with full attention"
        )
