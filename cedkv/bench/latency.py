"""How long a user waits for an answer: to its first token, and from token to token."""

import statistics
import time
from typing import Any, cast

from torch import nn

from cedkv.bench.machine import reading_gb_s
from cedkv.bench.plan import Plan
from cedkv.episodes import RelationEpisode
from cedkv.lm import LanguageModel, read_queries, stream_tokens
from cedkv.lm.forward import TokenIds
from cedkv.state import KVPrefix

Times = tuple[float, float | None]


def measure_latency(
    lm: LanguageModel, episode: RelationEpisode, teacher: KVPrefix, student: KVPrefix, plan: Plan
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row of `ttft_ms` and one of `tokens_per_second`: demonstrations in the prompt, cached, and as slots.

    The views take turns on the same queries, after one round that is not counted.
    """
    prompt = list(episode.tokens.ids[len(lm.bos) :])
    queries = [list(query.ids) for query in episode.on_eval]
    views = {"teacher_prompt": (prompt, None), "teacher_cached": ([], teacher), "student": ([], student)}
    taken: dict[str, list[Times]] = {name: [] for name in views}
    for turn in range(1 + plan.answers):
        query = queries[turn % len(queries)]
        for name, (before, prefix) in views.items():
            taken[name].append(answer_times(lm, [*before, *query], prefix, plan.new_tokens))
    size = {"demos": len(episode.demos), "tokens": len(episode.tokens), "slots": student.slots}
    first = {name: 1e3 * statistics.median(ttft for ttft, _ in times[1:]) for name, times in taken.items()}
    rates = {name: [rate for _, rate in times[1:] if rate is not None] for name, times in taken.items()}
    return {**size, **first}, {
        **size,
        **{name: statistics.median(some) if some else None for name, some in rates.items()},
    }


def decoding_figures(lm: LanguageModel, tokens_per_second: float | None) -> dict[str, Any]:
    """How near decoding comes to what memory allows: a token of one query needs every weight once, and little else.

    `limit` is the reading rate over the weights' bytes, tokens per second; `utilisation` the share that is reached.
    """
    weights, rate = weight_bytes(lm), reading_gb_s(lm.device)
    limit = rate * 1e9 / weights
    share = None if tokens_per_second is None else tokens_per_second / limit
    return {
        "weight_bytes": weights, "reading_gb_s": rate, "limit": limit, "tokens_per_second": tokens_per_second,
        "utilisation": share,
    }  # fmt: skip


def decoding_line(decoding: dict[str, Any]) -> str:
    """Tokens per second of the student beside what reading all weights for each token allows."""
    limit = f"{decoding['reading_gb_s']:.0f} GB/s over {decoding['weight_bytes'] / 1e6:.0f} MB of weights"
    if decoding["tokens_per_second"] is None:
        return f"not timed; {limit} allow {decoding['limit']:.0f} tokens/s"
    return (
        f"{decoding['tokens_per_second']:.1f} tokens/s, {decoding['utilisation']:.0%} of the {decoding['limit']:.0f} "
        f"that {limit} allow"
    )


def weight_bytes(lm: LanguageModel) -> int:
    """What a token reads of the weights: all of them, but of embeddings that are no LM head a single row."""
    embedding, head = (
        cast(nn.Embedding | nn.Linear, part).weight
        for part in (lm.model.get_input_embeddings(), lm.model.get_output_embeddings())
    )
    return sum(weight.nbytes for weight in lm.model.parameters()) - (0 if embedding is head else embedding.nbytes)


def answer_times(lm: LanguageModel, ids: TokenIds, prefix: KVPrefix | None, new_tokens: int) -> Times:
    """Seconds to the first greedy token, and tokens per second after it; None if the answer ends with it."""
    started = time.perf_counter()
    ends = [time.perf_counter() for _ in stream_tokens(lm, read_queries(lm, [ids], prefix), new_tokens)]
    after = (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else None
    return ends[0] - started, after
