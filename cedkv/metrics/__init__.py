"""What is measured: pure functions of tensors that know nothing of models, episodes or methods."""

from cedkv.metrics.accuracy import answer_logprob, exact_match, first_token_correct
from cedkv.metrics.attribution import role_mass, top_tokens
from cedkv.metrics.collapse import attribution_overlap, collapse_summary, effective_rank, slot_cosine
from cedkv.metrics.correlation import pearson, spearman
from cedkv.metrics.divergence import TailStats, cvar, kl, off_summary, rel_kl, tail_stats

__all__ = [
    "TailStats",
    "answer_logprob",
    "attribution_overlap",
    "collapse_summary",
    "cvar",
    "effective_rank",
    "exact_match",
    "first_token_correct",
    "kl",
    "off_summary",
    "pearson",
    "rel_kl",
    "role_mass",
    "slot_cosine",
    "spearman",
    "tail_stats",
    "top_tokens",
]
