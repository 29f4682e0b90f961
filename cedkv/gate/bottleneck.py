"""What the curves of a diagnosis say, in words: the bottleneck, and the option to try against it.

Thresholds here choose words and decide nothing else.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

# As good as the teacher: KL in nats, and the share of queries on which both say the same first token.
GOOD_KL, GOOD_AGREEMENT = 0.15, 0.95
# The base already says what the teacher says on so many queries: the demonstrations add little.
NO_NEED = 0.9
# Independent directions per slot below which slots are too much alike.
_ALIKE = 0.5
# KL in nats that a band of layers must be worth, and the share of p99 that being without it must save.
_IDLE_KL, _SAVED = 0.02, 0.05


@dataclass(frozen=True)
class Finding:
    """name : of the bottleneck. words : what was seen. option : what to try."""

    name: str
    words: str
    option: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def find_bottlenecks(found: dict[str, Any]) -> list[Finding]:
    """The bottlenecks of a diagnosis, the one that decides first; one named `none` where nothing is in the way."""
    checks = (_teacher, _expressiveness, _collapse, _trade_off, _layers)
    return [finding for check in checks for finding in check(found)] or [
        Finding(
            "none",
            f"The closed form is the teacher's equal at {found['slots']} slots and no louder than an ordinary "
            "paragraph.",
            "Use the method chunked as it is; the thorough preset makes it quieter still.",
        )
    ]


def good(point: dict[str, Any]) -> bool:
    """Whether a state is as good as the teacher, for these words."""
    return point["kl"] <= GOOD_KL and point["agreement"] >= GOOD_AGREEMENT


def _at(found: dict[str, Any]) -> dict[str, Any]:
    return next(point for point in found["by_slots"] if point["slots"] == found["slots"])


def _teacher(found: dict[str, Any]) -> Iterator[Finding]:
    base = found["references"]["base"]
    if base["agreement"] >= NO_NEED:
        yield Finding(
            "demonstrations",
            f"Without any demonstration the model already says what it says with them on {base['agreement']:.0%} of "
            "the queries: there is little to compress.",
            "Give demonstrations that change the first token.",
        )


def _expressiveness(found: dict[str, Any]) -> Iterator[Finding]:
    here = _at(found)
    if good(here):
        return
    seen = f"At {found['slots']} slots the closed form agrees on {here['agreement']:.0%} (KL {here['kl']:.2f})"
    enough = next((p for p in found["by_slots"] if p["slots"] > found["slots"] and good(p)), None)
    heavier = next((p for p in found["by_weight"] if p["weight"] > found["weight"] and good(p)), None)
    if enough:
        yield Finding(
            "expressiveness",
            f"{seen}; at {enough['slots']} on {enough['agreement']:.0%} (KL {enough['kl']:.2f}). The template has "
            f"{found['places']} places, and places that share a slot are mixed.",
            f"phase3.slots={enough['slots']}, or the method ced, which learns what a shared slot is made of.",
        )
    elif heavier:
        yield Finding(
            "weight",
            f"{seen}; with weight {heavier['weight']:g} on {heavier['agreement']:.0%} (KL {heavier['kl']:.2f}): slots "
            "count for less than the tokens they stand for.",
            f"phase3.chunked.weight={heavier['weight']:g}.",
        )
    else:
        yield Finding(
            "expressiveness",
            f"{seen}, and more slots or more weight do not mend it: means of template places do not carry this "
            "relation.",
            "The method ced with --mixture thorough, or --mixture tokens, where training chooses tokens.",
        )


def _collapse(found: dict[str, Any]) -> Iterator[Finding]:
    here = _at(found)
    if here["made"] > 1 and (here["near_copies"] or here["effective_rank_values"] < _ALIKE * here["made"]):
        copies = f", {len(here['near_copies'])} pairs are near copies" if here["near_copies"] else ""
        yield Finding(
            "collapse",
            f"{here['made']} slots point in {here['effective_rank_values']:.1f} independent directions{copies}.",
            f"Fewer slots (phase3.slots={max(1, round(here['effective_rank_values']))}), or "
            "phase3.least.within_chunks=all, which lets each become what it is best at.",
        )


def _trade_off(found: dict[str, Any]) -> Iterator[Finding]:
    paragraph, here = found["references"]["neutral_paragraph"]["off_p99"], _at(found)
    if here["off_p99"] <= paragraph:
        return
    quieter = [p for p in found["by_weight"] if p["weight"] < found["weight"] and p["off_p99"] < here["off_p99"]]
    best = min(filter(good, quieter), key=lambda point: point["off_p99"], default=None)
    trained = [point for point in found["by_lambda"] if good(point)]
    quietest = min(trained, key=lambda point: point["off_p99"], default=None)
    seen = f"OFF p99 is {here['off_p99']:.2f} nats, an ordinary paragraph's {paragraph:.2f}"
    if quietest and (best is None or quietest["off_p99"] < best["off_p99"]):
        option = f"phase3.loss.lambda_off={quietest['lambda_off']:g} with the method ced: {quietest['off_p99']:.2f}."
    elif best:
        option = f"phase3.chunked.weight={best['weight']:g}: {best['off_p99']:.2f} at KL {best['kl']:.2f}."
    else:
        option = "The method ced, which learns the weights against OFF texts; --train shows how far it gets."
    if best:
        lighter = "less weight is quieter and still good"
    else:
        lighter = "less weight is quieter but no longer good" if quieter else "less weight is no quieter"
    yield Finding("trade-off", f"{seen}; {lighter}.", option)


def _layers(found: dict[str, Any]) -> Iterator[Finding]:
    here = _at(found)
    idle = [
        point
        for point in found["by_layer"]
        if point["kl"] <= here["kl"] + _IDLE_KL and point["off_p99"] <= here["off_p99"] * (1 - _SAVED)
    ]
    if idle and len(idle) < len(found["by_layer"]):
        off = [layer for point in idle for layer in point["layers"]]
        kept = [layer for point in found["by_layer"] for layer in point["layers"] if layer not in off]
        yield Finding(
            "layers",
            f"Layers {_ranges(off)} give nothing here and disturb other text.",
            f"phase3.layer_scope.injection={kept}".replace(" ", ""),
        )


def _ranges(numbers: list[int]) -> str:
    """`0-4, 20-24` for runs of whole numbers in order."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
