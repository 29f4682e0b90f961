"""The relation state as plain data."""

from cedkv.state.precision import PRECISIONS, with_precision
from cedkv.state.prefix import (
    ROLES,
    DemoKV,
    DemoTokens,
    KVPrefix,
    Mixture,
    pad_with_null_slots,
    slot_layout,
)

__all__ = [
    "PRECISIONS",
    "ROLES",
    "DemoKV",
    "DemoTokens",
    "KVPrefix",
    "Mixture",
    "pad_with_null_slots",
    "slot_layout",
    "with_precision",
]
