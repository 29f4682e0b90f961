"""A state as a sequence file of llama.cpp, as `llama_state_seq_load_file` reads it: version 3, F32, one sequence.

The file has magic, version and token ids; one stream of cells with position and sequence; then all keys, layer by
layer, a row for each cell, and all values, a row for each number (llama.cpp, `src/llama-kv-cache.cpp`,
`state_write_meta` and `state_write_data`).
"""

import struct
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from cedkv.errors import StateError
from cedkv.lm import LanguageModel
from cedkv.lm.export import visible_slots
from cedkv.lm.rope import rotate_keys
from cedkv.state import KVPrefix

MAGIC, VERSION = 0x67677371, 3  # "ggsq"
F32 = 0  # the number of ggml's type
# Values lie transposed, as a context without flash attention keeps them. With it llama.cpp rounds more (measured on the
# embedded model, log-probabilities: 9e-4 instead of 3e-6 on a processor), so such a context is not written for.
_TRANSPOSED = 1


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse a model whose cells in llama.cpp would be others than those written here.

    Raises
    ------
    StateError
        Its architecture or rotary embedding is another.
    """
    kind, rope = config.get("model_type"), dict(config.get("rope_parameters") or {})
    if kind != "llama":
        raise StateError(f"a state of model architecture {kind!r} is not written for llama.cpp; only llama's is proven")
    if rope.get("rope_type", "default") != "default":
        raise StateError(f"rotary embedding {rope['rope_type']!r} is not written for llama.cpp; only default is")


def sequence_file(prefix: KVPrefix, lm: LanguageModel, placeholder: int) -> bytes:
    """The content of the file. Cells stand at 0 to S-1 and the query at S, whatever the state's own positions are.

    A rotary embedding knows distances, so keys are turned to theirs from the query: gaps and absolute positions change
    no answer.

    Parameters
    ----------
    placeholder : the token id that stands for each slot.

    Raises
    ------
    StateError
        A slot is switched on in some layers only, or the model is one that is not written for llama.cpp.
    """
    check_config(lm.model.config.to_dict())
    slots = visible_slots(prefix)
    count = len(slots)
    keys = rotate_keys(lm, prefix.keys[:, :, slots].float(), prefix.positions[slots] - prefix.query_start + count)
    cells = b"".join(struct.pack("<iIi", place, 1, 0) for place in range(count))
    return b"".join(
        [
            struct.pack("<III", MAGIC, VERSION, count),
            struct.pack(f"<{count}i", *[placeholder] * count),
            struct.pack("<II", 1, count),
            cells,
            struct.pack("<II", _TRANSPOSED, lm.layers),
            *map(_key_rows, interleaved(keys)),
            *map(_value_rows, prefix.values[:, :, slots].float()),
        ]
    )


def interleaved(keys: Float[Tensor, "*rest head_dim"]) -> Float[Tensor, "*rest head_dim"]:
    """Keys as a Llama GGUF has them: the numbers that are turned together stand side by side, not half a head apart."""
    return keys.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


def _key_rows(layer: Float[Tensor, "kv_heads slots head_dim"]) -> bytes:
    rows = layer.transpose(0, 1).flatten(1)
    return struct.pack("<iQ", F32, rows.shape[1] * rows.element_size()) + _bytes(rows)


def _value_rows(layer: Float[Tensor, "kv_heads slots head_dim"]) -> bytes:
    rows = layer.transpose(1, 2).flatten(0, 1)
    return struct.pack("<iII", F32, rows.element_size(), len(rows)) + _bytes(rows)


def _bytes(rows: Float[Tensor, "rows columns"]) -> bytes:
    return rows.contiguous().cpu().numpy().tobytes()
