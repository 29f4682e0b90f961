"""The only place that touches transformers: loading, rotary embedding, cache, the three views."""

from cedkv.lm.convert import cache_root
from cedkv.lm.find import EMBEDDED
from cedkv.lm.forward import (
    View,
    demo_kv_bytes,
    iter_log_probs,
    log_probs,
    packed_logits,
    read_demo_kv,
    read_lead,
)
from cedkv.lm.generate import generate, read_behind_each, read_queries, stream_tokens
from cedkv.lm.load import LanguageModel, load_model
from cedkv.lm.observe import AttentionReading, read_attention, read_demonstrations, reading_of, record_tail
from cedkv.lm.room import check_room

__all__ = [
    "EMBEDDED",
    "AttentionReading",
    "LanguageModel",
    "View",
    "cache_root",
    "check_room",
    "demo_kv_bytes",
    "generate",
    "iter_log_probs",
    "load_model",
    "log_probs",
    "packed_logits",
    "read_attention",
    "read_behind_each",
    "read_demo_kv",
    "read_demonstrations",
    "read_lead",
    "read_queries",
    "reading_of",
    "record_tail",
    "stream_tokens",
]
