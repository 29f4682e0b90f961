"""Select-KV: slots copied from chosen spans of demonstration tokens. The floor every mixture must beat.

Scoring ranks spans by one of four rules; choosing walks down the ranking until the slots are filled; copying (or
running the chosen tokens again) makes the prefix.
"""

import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.config import SelectSettings
from cedkv.events import Done, Event, Progress
from cedkv.lm import log_probs, read_demo_kv
from cedkv.methods.base import Extraction, Workbench
from cedkv.metrics import kl
from cedkv.state import DemoTokens, KVPrefix, Mixture, pad_with_null_slots, slot_layout

# Causal drop removes every candidate once from the teacher's cache; a few queries are enough to rank them.
_CAUSAL_QUERIES = 8
_SINK = 0


@dataclass(frozen=True)
class Span:
    """Demonstration tokens `start` to `end` (exclusive), grown around `anchor`."""

    start: int
    end: int
    anchor: int

    @property
    def tokens(self) -> range:
        return range(self.start, self.end)


@dataclass(frozen=True)
class Selection:
    """Chosen token indices, ascending, with the spans they came from and each span's score."""

    tokens: list[int]
    spans: list[Span]
    scores: list[float]

    def as_dict(self) -> dict:
        return {
            "tokens": self.tokens,
            "spans": [
                {"start": span.start, "end": span.end, "anchor": span.anchor, "score": score}
                for span, score in zip(self.spans, self.scores, strict=True)
            ],
        }


def select_kv(bench: Workbench, slots: int) -> Iterator[Event]:
    """Select at most `slots` tokens as `phase2.select` says and make a slot of each."""
    settings = bench.config.phase2.select
    candidates = candidate_spans(bench.episode.tokens, settings)
    scores = yield from SCORERS[settings.mode](bench, candidates)
    selection = choose(bench.episode.tokens, candidates, scores, settings, slots)
    prefix = selected_prefix(bench, selection.tokens, slots)
    yield Done(Extraction("select", prefix, artifacts={"selection": selection.as_dict()}))


def random_trial(bench: Workbench, slots: int, trial: int) -> KVPrefix:
    """Spans drawn at random in the shape that `phase2.select` asks for: the bar that a rule has to clear."""
    settings = bench.config.phase2.select.model_copy(update={"mode": "random_span"})
    tokens = bench.episode.tokens
    candidates = candidate_spans(tokens, settings)
    draw = random.Random(f"{bench.config.run.seed}/{trial}")
    scores = Scores([draw.random() for _ in candidates])
    return selected_prefix(bench, choose(tokens, candidates, scores, settings, slots).tokens, slots)


def candidate_spans(tokens: DemoTokens, settings: SelectSettings) -> list[Span]:
    """Every span that may be chosen, in token order.

    `candidate_policy` restricts the anchor (a span's start or centre), not the tokens inside. With `align: demo`
    a span is the whole demonstration around its anchor, and each demonstration appears once.
    """
    allowed = {"input", "delimiter"} if settings.candidate_policy == "input_and_delimiter_only" else set(tokens.roles)
    if settings.mode == "delimiter_span":
        allowed &= {"delimiter"}
    demo_spans = tokens.demo_spans()
    spans: dict[tuple[int, int], Span] = {}
    for anchor, (role, demo) in enumerate(zip(tokens.roles, tokens.demo, strict=True)):
        if role not in allowed or demo < 0:
            continue
        if settings.align == "demo":
            start, end = demo_spans[demo]
        else:
            before = settings.span_len // 2 if settings.center_policy == "center" else 0
            start = max(anchor - before, 0)
            end = min(start + settings.span_len, len(tokens))
        spans.setdefault((start, end), Span(start, end, anchor))
    return list(spans.values())


def choose(
    tokens: DemoTokens, candidates: list[Span], scores: "Scores", settings: SelectSettings, slots: int
) -> Selection:
    """Take the best spans, one after another, until the slots, the span budget or the candidates run out.

    After each choice every candidate's score falls by its similarity to what is chosen (only rules that measure
    similarity), and candidates closer than `min_span_distance` drop out. A span that does not fit is trimmed to
    the slots left, unless that would cut a demonstration's input or output in an aligned selection.
    """
    chosen: list[Span] = []
    kept = {_SINK} if settings.keep_sink else set()
    gains: list[float] = []
    left = list(range(len(candidates)))
    while left and len(chosen) < settings.span_budget and len(kept) < slots:
        value = {i: scores.marginal(i, [candidates.index(span) for span in chosen]) for i in left}
        best = max(left, key=value.__getitem__)
        left.remove(best)
        span = candidates[best]
        if any(abs(span.anchor - other.anchor) <= settings.min_span_distance for other in chosen):
            continue
        fitting = _fit(tokens, span, kept, slots, whole=settings.align == "demo")
        if fitting:
            kept |= set(fitting)
            chosen.append(span)
            gains.append(value[best])
    return Selection(sorted(kept), chosen, gains)


def _fit(tokens: DemoTokens, span: Span, kept: set[int], slots: int, whole: bool) -> list[int]:
    """The tokens of a span that fit beside `kept`: from its start, and whole demonstrations lose delimiters only."""
    inside = list(span.tokens)
    while len(kept | set(inside)) > slots:
        dropped = inside.pop()
        if whole and tokens.roles[dropped] != "delimiter":
            return []
    return [token for token in inside if token not in kept]


def selected_prefix(bench: Workbench, indices: list[int], slots: int) -> KVPrefix:
    """The selected tokens as `phase2` wants them injected: its layers, padded with null slots where it says so."""
    phase2 = bench.config.phase2
    prefix = token_prefix(bench, indices, phase2.select.source)
    prefix = prefix.with_injection_layers(bench.layers(phase2.layer_scope.injection))
    return pad_with_null_slots(prefix, slots) if phase2.prefix.padding_mode == "null_pad" else prefix


def token_prefix(bench: Workbench, indices: list[int], source: str = "copy") -> KVPrefix:
    """A prefix of one slot per token.

    `copy` takes the token's KV as it is in the whole block; `reprefill` runs the tokens again as a short prompt, so
    they no longer know of the others.
    """
    tokens, demo_kv = bench.episode.tokens, bench.demo_kv
    if source == "reprefill":
        kv = read_demo_kv(bench.lm, tokens.take(indices))
        keys, values = kv.keys, kv.values
    else:
        keys, values = demo_kv.keys[:, :, indices], demo_kv.values[:, :, indices]
    positioning = bench.config.phase2.injection.positioning_mode
    positions, query_start = slot_layout(len(indices), len(tokens), positioning, keys.device)
    weights = torch.nn.functional.one_hot(torch.tensor(indices), len(tokens)).float()[None, None].to(keys.device)
    return KVPrefix(
        keys=keys,
        values=values,
        positions=positions,
        query_start=query_start,
        active=torch.ones(keys.shape[0], len(indices), dtype=torch.bool, device=keys.device),
        fingerprint=demo_kv.fingerprint,
        mixture=Mixture(weights, tokens),
    )


@dataclass(frozen=True)
class Scores:
    """A score per candidate span and, where the rule has one, how alike two spans are (0..1)."""

    values: list[float]
    similarity: Float[Tensor, "spans spans"] | None = None

    def marginal(self, index: int, chosen: list[int]) -> float:
        """What a span still adds once others are chosen: its score times how unlike them it is."""
        if self.similarity is None or not chosen:
            return self.values[index]
        return self.values[index] * (1 - self.similarity[index, chosen].max().item())


def score_by_attention(bench: Workbench, candidates: list[Span]) -> Generator[Event, None, Scores]:
    """Mean attention of ON queries per span, in the scoring layers; alike spans count less than different ones.

    Two spans are alike when the same queries, heads and layers look at them (cosine of their attention).
    """
    attention = bench.teacher_attention[bench.layers(bench.config.phase2.layer_scope.selection)].clone()
    attention[..., _SINK] = 0
    per_span = torch.stack([attention[..., span.start : span.end].sum(-1).flatten() for span in candidates])
    profile = torch.nn.functional.normalize(per_span, dim=-1)
    yield Progress("scoring spans by attention", 1, 1)
    return Scores(per_span.mean(-1).tolist(), profile @ profile.T)


def score_by_causal_drop(bench: Workbench, candidates: list[Span]) -> Generator[Event, None, Scores]:
    """How far the teacher moves (KL, nats) on ON queries when the span is really removed from its cache.

    A sink that is kept whatever is chosen stays: without it any demonstration around it would look decisive.
    """
    spared = {_SINK} if bench.config.phase2.select.keep_sink else set()
    queries, reference = bench.probes[:_CAUSAL_QUERIES], bench.teacher_on_probes[:_CAUSAL_QUERIES]
    drops = []
    for index, span in enumerate(candidates):
        removed = [token for token in span.tokens if token not in spared]
        moved = log_probs(bench.lm, queries, bench.teacher.without(removed))
        drops.append(kl(reference, moved).mean().item())
        yield Progress("scoring spans by causal drop", index + 1, len(candidates))
    return Scores(drops)


def score_at_random(bench: Workbench, candidates: list[Span]) -> Generator[Event, None, Scores]:
    draw = random.Random(bench.config.run.seed)
    yield Progress("drawing spans", 1, 1)
    return Scores([draw.random() for _ in candidates])


Scorer = Callable[[Workbench, list[Span]], Generator[Event, None, Scores]]
SCORERS: dict[str, Scorer] = {
    "attention_diversity_span": score_by_attention,
    "delimiter_span": score_by_attention,
    "causal_drop_span": score_by_causal_drop,
    "random_span": score_at_random,
}
