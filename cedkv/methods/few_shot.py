"""Few-shot: the whole demonstrations that fit into the same number of tokens, as an ordinary prompt.

What a user would do instead of slots, and so the honest rival at equal size.
"""

import random
from collections.abc import Iterator

from cedkv.events import Done, Event, Progress
from cedkv.lm import log_probs, read_demo_kv
from cedkv.methods.base import Extraction, Workbench
from cedkv.metrics import kl
from cedkv.state import DemoKV, KVPrefix

# Training queries on which candidate prompts are compared.
_JUDGES = 8


def few_shot(bench: Workbench, slots: int) -> Iterator[Event]:
    """The best prompt of whole demonstrations within `slots` tokens: grown greedily, each time by the
    demonstration that brings the next-token distribution closest to the teacher's on training queries."""
    chosen: list[int] = []
    best: tuple[float, KVPrefix | None, list[int]] = (float("inf"), None, [])
    while True:
        candidates = list(_fitting(bench, chosen, slots))
        if not candidates:
            break
        scored = []
        for number, demo in enumerate(candidates):
            prefix = _prompt(bench, [*chosen, demo])
            scored.append((_distance(bench, prefix), demo, prefix))
            yield Progress(f"few-shot: demonstration {len(chosen) + 1}", number + 1, len(candidates))
        distance, demo, prefix = min(scored, key=lambda row: row[:2])
        chosen = [*chosen, demo]
        best = min(best, (distance, prefix, chosen), key=lambda row: row[0])
    _, nearest, demos = best
    yield Done(Extraction("few_shot", nearest or _prompt(bench, []), artifacts={"few_shot": {"demos": demos}}))


def few_shot_trial(bench: Workbench, slots: int, trial: int) -> KVPrefix:
    """Whole demonstrations drawn at random until no further one fits."""
    draw = random.Random(f"{bench.config.run.seed}/{trial}")
    chosen: list[int] = []
    while candidates := _fitting(bench, chosen, slots):
        chosen.append(draw.choice(candidates))
    return _prompt(bench, chosen)


def _fitting(bench: Workbench, chosen: list[int], slots: int) -> list[int]:
    tokens = bench.episode.tokens
    spans = tokens.demo_spans()
    used = tokens.demo.count(-1) + sum(spans[demo][1] - spans[demo][0] for demo in chosen)
    return [demo for demo, (start, end) in enumerate(spans) if demo not in chosen and used + end - start <= slots]


def _prompt(bench: Workbench, demos: list[int]) -> KVPrefix:
    """The prompt's own cache. Demonstrations stand in the order they were chosen, the last nearest to the query."""
    tokens = bench.episode.tokens
    spans = tokens.demo_spans()
    indices = [index for index, demo in enumerate(tokens.demo) if demo == -1]
    indices += [token for demo in demos for token in range(*spans[demo])]
    if not indices:  # no demonstration fits, and a prompt of nothing cannot be run
        kv = bench.demo_kv
        return DemoKV(kv.keys[:, :, :0], kv.values[:, :, :0], tokens.take([]), kv.fingerprint).as_prefix()
    return read_demo_kv(bench.lm, tokens.take(indices)).as_prefix()


def _distance(bench: Workbench, prefix: KVPrefix) -> float:
    reference = bench.teacher_on_probes[:_JUDGES]
    return kl(reference, log_probs(bench.lm, bench.probes[:_JUDGES], prefix)).mean().item()
