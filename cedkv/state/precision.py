"""How keys and values are stored: three floating-point precisions and two integer ones.

Integers are symmetric: a number is `integer * scale`, where the scale is the largest magnitude of its group over the
largest integer. A group is one channel of one head over slots, because the channels of keys differ in size by orders
of magnitude and those of slots do not (Liu et al. 2024, KIVI): over all slots for int8, over 8 slots for int4.
"""

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor

from cedkv.errors import StateError

FLOATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Largest integer, and slots per group (None: all of them).
INTEGERS: dict[str, tuple[int, int | None]] = {"int8": (127, None), "int4": (7, 8)}
PRECISIONS = (*FLOATS, *INTEGERS)
SCALE_SUFFIX = "_scale"
Shape = tuple[int, int, int, int]


def precision_of(dtype: torch.dtype) -> str:
    """The name under which a floating-point dtype is stored."""
    return next(name for name, known in FLOATS.items() if known == dtype)


def check_precision(precision: str) -> None:
    """Refuse an unknown precision."""
    if precision not in PRECISIONS:
        raise StateError(f"precision {precision!r} is unknown; use one of {', '.join(PRECISIONS)}")


def encode(name: str, tensor: Float[Tensor, "layers kv_heads slots head_dim"], precision: str) -> dict[str, Tensor]:
    """The tensors that are stored for one of `keys` and `values`, by name."""
    if precision in FLOATS:
        stored = tensor.to(FLOATS[precision])
        if tensor.dtype != stored.dtype and not all(layer.isfinite().all() for layer in stored):
            raise StateError(f"{name!r} has numbers too large for {precision}; store the state as bf16 or fp32")
        return {name: stored}
    largest, group = INTEGERS[precision]
    grouped = _grouped(tensor.float(), group)
    scale = (grouped.abs().amax(dim=3, keepdim=True) / largest).to(torch.bfloat16)
    # A channel of zeros has no scale; anything but zero does for it.
    whole = (grouped / scale.float().clamp(min=torch.finfo(torch.float32).tiny)).round().clamp(-largest, largest)
    whole = whole.flatten(2, 3)[:, :, : tensor.shape[2]].to(torch.int8)
    return {name: whole if precision == "int8" else _packed(whole), name + SCALE_SUFFIX: scale.squeeze(3)}


def decode(
    name: str, stored: dict[str, Tensor], shape: Shape, precision: str
) -> Float[Tensor, "layers kv_heads slots head_dim"]:
    """What `encode` stored, as numbers again."""
    if precision in FLOATS:
        return stored[name]
    _, group = INTEGERS[precision]
    whole = stored[name] if precision == "int8" else _unpacked(stored[name])
    scaled = _grouped(whole.float(), group) * stored[name + SCALE_SUFFIX].float().unsqueeze(3)
    return scaled.flatten(2, 3)[:, :, : shape[2]].contiguous()


def stored_layout(name: str, shape: Shape, precision: str) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Dtype and shape of what `encode` stores for a tensor of `shape`."""
    if precision in FLOATS:
        return {name: (FLOATS[precision], shape)}
    layers, kv_heads, slots, head_dim = shape
    _, group = INTEGERS[precision]
    groups = -(-slots // (group or max(slots, 1)))
    numbers = (torch.int8, shape) if precision == "int8" else (torch.uint8, (*shape[:3], head_dim // 2))
    return {name: numbers, name + SCALE_SUFFIX: (torch.bfloat16, (layers, kv_heads, groups, head_dim))}


def _grouped(
    tensor: Float[Tensor, "layers kv_heads slots head_dim"], group: int | None
) -> Float[Tensor, "layers kv_heads groups group head_dim"]:
    """Slots split into groups; the last one is filled up with zeros."""
    layers, kv_heads, slots, head_dim = tensor.shape
    group = group or max(slots, 1)
    padded = torch.nn.functional.pad(tensor, (0, 0, 0, -slots % group))
    return padded.reshape(layers, kv_heads, -(-slots // group), group, head_dim)


def _packed(
    whole: Int8[Tensor, "layers kv_heads slots head_dim"],
) -> UInt8[Tensor, "layers kv_heads slots head_dim//2"]:
    """Two integers of -7..7 in a byte: the even channel in the low half. Rotary heads are even in size."""
    nibbles = (whole + 8).to(torch.uint8)
    return nibbles[..., ::2] | nibbles[..., 1::2] << 4


def _unpacked(
    packed: UInt8[Tensor, "layers kv_heads slots half_dim"],
) -> Int8[Tensor, "layers kv_heads slots 2*half_dim"]:
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2).to(torch.int8) - 8
