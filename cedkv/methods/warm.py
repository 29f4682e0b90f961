"""Where training starts: the tokens Select-KV would copy, fitted to attention outputs before the first step."""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from cedkv.events import drain
from cedkv.lm import read_attention
from cedkv.methods.base import Workbench
from cedkv.methods.select import select_kv, token_prefix
from cedkv.slots.base import MatchedSlots
from cedkv.slots.matching import Matching, MatchingTarget, choose_start, match_attention
from cedkv.slots.mixture import MixtureSlots
from cedkv.state import KVPrefix

# Tokens at the end of each OFF text that the warm start reads: many texts tell more than many rows of a few.
_MATCHED_TAIL = 8

# The part of its iterations that the warm start spends on trying each start.
_TRIAL = 5


def warm_prefix(bench: Workbench, slots: int, outputs_allowed: bool = True) -> KVPrefix:
    """The tokens Select-KV would copy, as the slots that training starts from, in the injection layers.

    Where its spans do not fill the slots, the last tokens do. Where output tokens may not be used, the nearest others
    stand in for them, the later ones first: what follows an answer has seen it.
    """
    chosen = drain(select_kv(bench, slots)).artifacts["selection"]["tokens"]
    rest = [token for token in reversed(range(len(bench.episode.tokens))) if token not in chosen]
    chosen = sorted(chosen + rest[: slots - len(chosen)])
    if not outputs_allowed:
        chosen = _without_outputs(bench.episode.tokens.roles, chosen)
    prefix = token_prefix(bench, chosen)
    return prefix.with_injection_layers(bench.layers(bench.config.phase3.layer_scope.injection))


def _without_outputs(roles: Sequence[str], chosen: list[int]) -> list[int]:
    kept = [token for token in chosen if roles[token] != "output"]
    for token in (token for token in chosen if roles[token] == "output"):
        free = [other for other, role in enumerate(roles) if role != "output" and other not in kept]
        kept += sorted(free, key=lambda other: (abs(other - token), -other))[:1]
    return sorted(kept)


def attention_by_kv_head(bench: Workbench) -> Float[Tensor, "layers kv_heads tokens"]:
    """Mean attention of ON training queries to each demonstration token, heads of one key/value head together."""
    attention = bench.teacher_attention.mean(dim=2)
    layers, heads, tokens = attention.shape
    return attention.view(layers, bench.lm.kv_heads, heads // bench.lm.kv_heads, tokens).mean(dim=2)


def warm_up(bench: Workbench, slots: MatchedSlots) -> Iterator[float]:
    """Match attention outputs: the teacher's on ON queries, the base's on OFF texts. Yields the error as it falls."""
    optim, reading = bench.config.phase3.optim, bench.teacher_reading
    texts = bench.episode.off_set("pool", optim.matching_off_texts).texts
    alone = read_attention(bench.trunk, [bench.lm.encode(off.text) for off in texts], None, tail=_MATCHED_TAIL)
    matching = Matching(
        bench.lm,
        MatchingTarget.of(reading, reading.outputs(reading.prefix_scores, bench.teacher.values), bench.lm.kv_heads),
        MatchingTarget.of(alone, alone.own_out, bench.lm.kv_heads),
        optim.matching_off_weight,
    )
    left, rate = optim.matching_iterations, optim.matching_speedup * slots.learning_rate
    trial = left // _TRIAL
    if trial and isinstance(slots, MixtureSlots):
        for error in choose_start(matching, slots, trial, rate, optim.topk_schedule[-1]):
            left -= 1
            yield error
    yield from match_attention(matching, slots, left, rate, optim.topk_schedule)
