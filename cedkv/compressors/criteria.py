"""The plan's success criteria for gists, from what was measured: each says its value and its verdict."""

import statistics
from collections.abc import Iterator, Mapping, Sequence

from cedkv.compressors.judging import Row, accuracy_table
from cedkv.events import GateCriterion
from cedkv.report import OffScores

LEAST_PASSKEY, LEAST_THEME_GAIN, LEAST_TTFT_GAIN = 0.70, 0.20, 0.30


def success_criteria(
    rows: Sequence[Row], profiled: Sequence[Row], off: Mapping[str, OffScores] | None = None
) -> list[GateCriterion]:
    """Those that something was measured for: pass keys, themes, memory, time to the first token, OFF effect."""
    return [*_kept(rows), *_saved(profiled), *_harmless(off or {})]


def _kept(rows: Sequence[Row]) -> Iterator[GateCriterion]:
    scores = {(row["kind"], row["view"]): row["score"] for row in accuracy_table(rows, "kind", "view")}
    if ("passkey", "gist") in scores:
        yield _criterion("passkey_gist", scores["passkey", "gist"], ">=", LEAST_PASSKEY, "pass keys that gists keep")
    if ("theme", "gist") in scores and ("theme", "retrieved") in scores:
        gain = scores["theme", "gist"] - scores["theme", "retrieved"]
        yield _criterion("theme_gain", gain, ">=", LEAST_THEME_GAIN, "themes, gist above retrieval")


def _saved(profiled: Sequence[Row]) -> Iterator[GateCriterion]:
    costs = {
        view: {
            name: statistics.fmean(row[name] for row in profiled if row["view"] == view)
            for name in ("kv_bytes", "ttft_ms")
        }
        for view in {row["view"] for row in profiled}
    }
    if {"gist", "full"} <= costs.keys():
        saved = 1 - costs["gist"]["kv_bytes"] / costs["full"]["kv_bytes"]
        yield _criterion("memory_saved", saved, ">=", 0.0, "share of the document's KV bytes that gists save")
    if {"gist", "retrieved"} <= costs.keys():
        sooner = 1 - costs["gist"]["ttft_ms"] / costs["retrieved"]["ttft_ms"]
        yield _criterion("ttft_saved", sooner, ">=", LEAST_TTFT_GAIN, "time to first token, gist below retrieval")


def _harmless(off: Mapping[str, OffScores]) -> Iterator[GateCriterion]:
    if {"gist", "neutral_paragraph"} <= off.keys():
        gist, paragraph = (off[name]["delta_p99"] for name in ("gist", "neutral_paragraph"))
        about = "p99 of Delta on other text, nats: at most that of an ordinary paragraph of as many tokens"
        yield _criterion("off_p99_gist", gist, "<=", paragraph, about)


def _criterion(name: str, value: float, op: str, threshold: float, about: str) -> GateCriterion:
    return GateCriterion(
        "B", name, value, op, threshold, value >= threshold if op == ">=" else value <= threshold, about
    )
