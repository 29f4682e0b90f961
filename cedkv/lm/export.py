"""The state for users of plain transformers and of PEFT. See docs/use-elsewhere.md."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from cedkv.errors import OutputError, StateError
from cedkv.files import parse_json, whole_file
from cedkv.lm.cache import layers_of
from cedkv.lm.decoder import Decoder
from cedkv.lm.plain import SlotCache, plain_fingerprint
from cedkv.lm.rope import rotate, unrotate_keys
from cedkv.state import KVPrefix

_ADAPTER_CONFIG, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_ADAPTER_TENSOR = "prompt_embeddings"
_ADAPTER_FINGERPRINT = "cedkv_fingerprint"


def to_cache(prefix: KVPrefix, model: PreTrainedModel, batch: int = 1) -> SlotCache:
    """A fresh cache that holds the state, for one forward or one `generate` of a plain model.

    A forward appends to the cache, so each query needs a new one. The cache is built without the model's config,
    because with it sliding layers would drop slots.

    Raises
    ------
    StateError
        The state was made with another model, or switches slots off in some layers only.
    ModelError
        The model was not loaded from files that are still there, so it cannot be told which one it is.
    """
    slots = visible_slots(prefix)
    prefix.check_model(plain_fingerprint(model))
    _check_sliding(prefix, slots, model)
    keys = prefix.keys[:, :, slots].to(model.device)
    values = prefix.values[:, :, slots].to(model.device, model.dtype)
    keys = rotate(model, keys, prefix.positions[slots]).to(model.dtype)
    rows = [
        (key.expand(batch, -1, -1, -1), value.expand(batch, -1, -1, -1))
        for key, value in zip(keys, values, strict=True)
    ]
    return SlotCache(rows)


def generate_inputs(
    prefix: KVPrefix, model: PreTrainedModel, queries: Sequence[Sequence[int]], pad_token_id: int = 0
) -> dict[str, Any]:
    """What `model.generate(**inputs)` or `model(**inputs)` needs to read queries behind the state.

    Returns `input_ids` and `position_ids` `[queries, tokens]`, `attention_mask` `[queries, slots + tokens]` and
    `past_key_values`. Without the mask and the positions transformers would drop or misplace the first tokens of a
    query. Shorter queries are padded on the left. Queries come without a beginning-of-text token: the state has it.

    Beams and several return sequences work. One call takes one `inputs`: a cache that was used, or `use_cache=False`,
    is refused as soon as it would be read behind other tokens.

    Raises
    ------
    StateError, ModelError
        As `to_cache`.
    """
    longest = max(len(query) for query in queries)
    ids = torch.tensor([[pad_token_id] * (longest - len(query)) + list(query) for query in queries])
    real = torch.tensor([[0] * (longest - len(query)) + [1] * len(query) for query in queries])
    cache = to_cache(prefix, model, len(queries))
    seen = torch.ones(len(queries), cache.get_seq_length(), dtype=torch.long)
    positions = (real.cumsum(-1) - 1).clamp(min=0) + prefix.query_start
    return {
        "input_ids": ids.to(model.device),
        "attention_mask": torch.cat([seen, real], dim=1).to(model.device),
        "position_ids": positions.to(model.device),
        "past_key_values": cache,
    }


def visible_slots(prefix: KVPrefix) -> Int[Tensor, " visible"]:
    """Indices of the slots that are switched on, which must be so in every layer.

    Raises
    ------
    StateError
        A slot is switched on in some layers only; a plain cache has one mask for all layers.
    """
    some, every = prefix.active.any(0), prefix.active.all(0)
    if (some != every).any():
        slot = int((some != every).nonzero()[0, 0])
        raise StateError(
            f"slot {slot} is switched on in some layers only, which a plain cache cannot say; "
            "use cedkv's own generate, or extract with injection in all layers"
        )
    return every.nonzero()[:, 0]


def save_peft(prefix: KVPrefix, folder: str | Path, model: PreTrainedModel, base_model: str = "") -> None:
    """Write the state as a prefix-tuning adapter that `peft.PeftModel.from_pretrained(model, folder)` loads.

    PEFT puts its prefix at positions 0..S-1 with keys that are already rotated, and the query at S. So only states
    in compact positions can be written, and where their slots come from is lost. The adapter appears whole or not at
    all, also where another one was.

    Parameters
    ----------
    base_model : the name by which others find the model.

    Raises
    ------
    StateError
        The state is not compact or switches slots off in some layers only, or was made with another model.
    ModelError
        As `to_cache`.
    OutputError
        The folder cannot be written.
    """
    slots = visible_slots(prefix)
    count = len(slots)
    if prefix.positions[slots].tolist() != list(range(count)) or prefix.query_start != count:
        raise StateError(
            f"slots at positions {prefix.positions[slots].tolist()} with the query at {prefix.query_start} cannot be "
            f"a PEFT prefix, which is at 0 to S-1 with the query at S; extract with positioning_mode: compact"
        )
    cache = to_cache(prefix, model)
    parts = [part[0].float().cpu() for layer in layers_of(cache) for part in (layer.keys, layer.values)]
    # PEFT keeps [slots, layers * 2 * heads * head_dim], keys and values of a layer one after the other.
    flat = torch.stack(parts).permute(2, 0, 1, 3).reshape(count, -1).contiguous()
    layers, kv_heads, _, head_dim = prefix.keys.shape
    config = {
        "peft_type": "PREFIX_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "num_virtual_tokens": count,
        "num_transformer_submodules": 1,
        "num_layers": layers,
        "num_attention_heads": kv_heads,
        "token_dim": kv_heads * head_dim,
        "encoder_hidden_size": kv_heads * head_dim,
        "prefix_projection": False,
    }
    folder = Path(folder)
    # The config comes last: a folder without it is no adapter, and one that was there is never mixed with the new one.
    with whole_file(folder / _ADAPTER_CONFIG) as described, whole_file(folder / _ADAPTER_WEIGHTS) as weights:
        try:
            save_file({_ADAPTER_TENSOR: flat}, weights, {"format": "pt", _ADAPTER_FINGERPRINT: prefix.fingerprint})
        except SafetensorError as error:
            raise OutputError(f"adapter folder {str(folder)!r} cannot be written: {error}") from error
        described.write_text(json.dumps(config, indent=1), encoding="utf-8")
        (folder / _ADAPTER_CONFIG).unlink(missing_ok=True)


def load_peft(folder: str | Path, model: PreTrainedModel) -> KVPrefix:
    """Read a prefix-tuning adapter (without projection) as a state of unconstrained slots.

    Adapters that `save_peft` wrote name the model they belong to; of any other it is the caller's word that it was
    trained with `model`.

    Raises
    ------
    StateError
        The folder holds no such adapter, or the adapter belongs to another model.
    ModelError
        As `to_cache`.
    """
    folder = Path(folder)
    try:
        config = parse_json((folder / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
        kind, projected = config["peft_type"], config["prefix_projection"]
        with safe_open(folder / _ADAPTER_WEIGHTS, "pt") as file:
            flat = file.get_tensor(_ADAPTER_TENSOR) if _ADAPTER_TENSOR in file.keys() else None  # noqa: SIM118
            belongs_to = (file.metadata() or {}).get(_ADAPTER_FINGERPRINT)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise StateError(f"adapter folder {str(folder)!r} cannot be read: {error}") from error
    if kind != "PREFIX_TUNING" or projected:
        raise StateError(f"adapter folder {str(folder)!r} is {kind!r}, not PREFIX_TUNING without a projection")
    layers, kv_heads, head_dim = _dimensions(model)
    if flat is None or flat.ndim != 2 or flat.shape[1] != layers * 2 * kv_heads * head_dim:
        shape = None if flat is None else tuple(flat.shape)
        raise StateError(
            f"adapter folder {str(folder)!r}: {_ADAPTER_TENSOR!r} has shape {shape}, "
            f"the model needs [slots, {layers * 2 * kv_heads * head_dim}]"
        )
    if not flat.isfinite().all():
        raise StateError(f"adapter folder {str(folder)!r}: {_ADAPTER_TENSOR!r} is not made of finite numbers")
    count = flat.shape[0]
    # [layers, keys and values, heads, slots, head_dim]
    parts = flat.float().view(count, layers, 2, kv_heads, head_dim).permute(1, 2, 3, 0, 4).to(model.device)
    positions = torch.arange(count, device=model.device)
    fingerprint = plain_fingerprint(model)
    state = KVPrefix(
        keys=unrotate_keys(model, parts[:, 0], positions),
        values=parts[:, 1].contiguous(),
        positions=positions,
        query_start=count,
        active=torch.ones(layers, count, dtype=torch.bool, device=model.device),
        fingerprint=belongs_to or fingerprint,
        meta={"method": "peft"},
    )
    state.check_model(fingerprint)
    return state


def _dimensions(model: PreTrainedModel) -> tuple[int, int, int]:
    config = model.config
    return config.num_hidden_layers, config.num_key_value_heads, Decoder(model).head_dim


def _check_sliding(prefix: KVPrefix, slots: Int[Tensor, " visible"], model: PreTrainedModel) -> None:
    """Plain sliding layers count distance in the cache, so slots must follow one another up to the query."""
    positions = prefix.positions[slots].tolist()
    follows = positions == list(range(prefix.query_start - len(positions), prefix.query_start))
    if not follows and getattr(model.config, "sliding_window", None):
        raise StateError(
            f"slots at positions {positions} with the query at {prefix.query_start} leave gaps, which the sliding "
            "layers of a plain model do not see; use cedkv's own generate"
        )
