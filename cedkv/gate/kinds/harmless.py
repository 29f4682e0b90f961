"""What any kind of gate may ask of a state's harm besides its own bounds, and what stands beside each figure of it."""

from collections.abc import Iterator
from typing import Literal

from cedkv.config import HarmThresholds
from cedkv.events import GateCriterion
from cedkv.gate.kinds.base import criterion
from cedkv.report import CHOICE_LOSS, SAME_CONTINUATIONS, OffScores, Report

# Continuations are compared over so many tokens.
_COMPARED = "8"
_Figure = Literal["delta_mean", "delta_p99", "perplexity_ratio"]
_BESIDE = {
    "teacher": "the demonstrations score",
    "neutral_paragraph": "an ordinary paragraph",
    "neutral_token": "a line break",
}


def beside(off: dict[str, dict[str, OffScores]]) -> str:
    """The stress p99 of what a user might have in front of a text in place of the slots, in words."""
    known = [f"{words} {off[view]['stress']['delta_p99']:.2f}" for view, words in _BESIDE.items() if view in off]
    return ", ".join(known)


def harm_criteria(report: Report, student: str, limits: HarmThresholds) -> Iterator[GateCriterion]:
    """The criteria whose bound is set."""
    off = report["off"]
    if limits.paragraph_share_max is not None:
        paragraph = off["neutral_paragraph"]["stress"]["delta_p99"]
        yield criterion(
            "off_delta_p99_vs_paragraph",
            off[student]["stress"]["delta_p99"],
            "<=",
            limits.paragraph_share_max * paragraph,
            f"At most {limits.paragraph_share_max:g} of what an ordinary paragraph does ({paragraph:.2f}).",
        )
    bounds: tuple[tuple[str, _Figure, float | None, str], ...] = (
        ("real_text", "delta_mean", limits.real_delta_mean_max, "Mean Delta per token of real text (nats)"),
        ("real_text", "delta_p99", limits.real_delta_p99_max, "p99 of Delta per token of real text (nats)"),
        ("real_text", "perplexity_ratio", limits.perplexity_ratio_max, "Perplexity of real text over the base's"),
        ("foreign", "delta_p99", limits.foreign_delta_p99_max, "p99 of Delta on other relations' queries (nats)"),
    )
    for measure, figure, bound, about in bounds:
        if bound is not None:
            paragraph = off["neutral_paragraph"][measure][figure]
            name, value = f"off_{measure}_{figure}", off[student][measure][figure]
            yield criterion(name, value, "<=", bound, f"{about}; an ordinary paragraph scores {paragraph:.3f}.")
    if limits.same_continuations_min is not None:
        yield criterion(
            SAME_CONTINUATIONS,
            report["continued"][student]["same_first"][_COMPARED],
            ">=",
            limits.same_continuations_min,
            f"Continuations of real text whose first {_COMPARED} tokens are the base's.",
        )
    if limits.choice_loss_max is not None:
        scores = report["choice"][student]
        yield criterion(
            CHOICE_LOSS,
            scores["base"] - scores["accuracy"],
            "<=",
            limits.choice_loss_max,
            f"Accuracy lost on multiple-choice questions, of the base's {scores['base']:.2f}.",
        )
