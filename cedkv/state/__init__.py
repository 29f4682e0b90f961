"""The relation state as plain data."""

from cedkv.state.mixture import ROLES, DemoTokens, Mixture
from cedkv.state.precision import PRECISIONS
from cedkv.state.prefix import DemoKV, KVPrefix, pad_with_null_slots, slot_layout, with_precision

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
