"""What a vLLM engine must be so that a state's keys and values mean there what they were made to mean."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import Refused
from .folder import StateFolder
from .model import check_files
from .supported import check_config

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def open_states(vllm_config: "VllmConfig", read_model_files: bool) -> StateFolder:
    """The folder of states that an engine is configured with, once engine and model have been checked against it.

    Parameters
    ----------
    read_model_files : compare the model's files too, which takes about a second a gigabyte; one process of an engine
        does it for all.

    Raises
    ------
    Refused
        The engine has something that a state cannot stand beside, or serves another model.
    """
    extra = vllm_config.kv_transfer_config.kv_connector_extra_config
    if not extra.get("states"):
        raise Refused('kv_connector_extra_config names no folder; add {"states": "/path/to/the/folder"}')
    check_settings(settings_of(vllm_config))
    model = vllm_config.model_config
    config = model.hf_config
    check_config(config.to_dict())
    shape = (config.num_hidden_layers, model.get_total_num_kv_heads(), model.get_head_size())
    states = StateFolder(Path(extra["states"]), shape)
    if read_model_files:
        check_files(states.model, _model_folder(model.model, model.revision))
    return states


def settings_of(vllm_config: "VllmConfig") -> dict[str, Any]:
    """The settings of an engine that decide, by vLLM's own names for them."""
    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    return {
        "hf_overrides": model.hf_overrides or None,
        "quantization": model.quantization,
        "load_format": vllm_config.load_config.load_format,
        "kv_cache_dtype": vllm_config.cache_config.cache_dtype,
        "speculative_config": vllm_config.speculative_config,
        "decode_context_parallel_size": parallel.decode_context_parallel_size,
        "prefill_context_parallel_size": parallel.prefill_context_parallel_size,
        "kv_load_failure_policy": vllm_config.kv_transfer_config.kv_load_failure_policy,
    }


# Each with the values that leave a state what it is. Any other may change what keys mean, or read placeholders.
_ALLOWED = {
    "hf_overrides": (None,),
    "quantization": (None,),
    "load_format": ("auto", "safetensors"),
    "kv_cache_dtype": ("auto", "float32", "bfloat16", "float16"),
    "speculative_config": (None,),
    "decode_context_parallel_size": (1,),
    "prefill_context_parallel_size": (1,),
    # The other policy computes the placeholders as text.
    "kv_load_failure_policy": ("fail",),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse an engine with a setting under which a state's answers would not be its own.

    Raises
    ------
    Refused
        It names the setting, its value and what it may be.
    """
    for name, allowed in _ALLOWED.items():
        if settings[name] not in allowed:
            may = " or ".join(map(str, allowed))
            raise Refused(f"{name} is {settings[name]!s:.80}, and states are served with {may} only")


def _model_folder(model: str, revision: str | None) -> Path:
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download  # comes with vLLM, which has fetched the model by now

    return Path(snapshot_download(model, revision=revision, local_files_only=True))
