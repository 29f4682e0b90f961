"""The gate of copied slots: does Select-KV work, and is it harmless enough? Phase 2."""

from collections.abc import Iterator
from typing import Any

from cedkv.config import Config, Phase2Thresholds
from cedkv.episodes import episode_from_config
from cedkv.events import GateCriterion
from cedkv.gate.kinds.base import Kind, Trial, criterion, verdicts
from cedkv.gate.kinds.harmless import beside, harm_criteria
from cedkv.methods.few_shot import few_shot_trial
from cedkv.methods.select import random_trial
from cedkv.metrics import exact_match
from cedkv.report import OffScores, OnScores, Report

# Random choices of the same size, from the same tokens.
TRIALS = {"random": Trial(random_trial, kept=True), "few_shot_random": Trial(few_shot_trial)}


def phase2_criteria(
    on: dict[str, OnScores], off: dict[str, dict[str, OffScores]], thresholds: Phase2Thresholds, by_format: bool = False
) -> Iterator[GateCriterion]:
    """Whether Select-KV works and is harmless enough; `on` and `off` are the report's blocks.

    by_format : the first token tells nothing in this episode, so whole answers take its place.
    """
    select = on["select"]
    if by_format:
        yield criterion(
            "whole_gain",
            select["whole_answer"] - on["base"]["whole_answer"],
            ">=",
            thresholds.on_gain_min,
            "Whole answers gained over the base on unseen queries; format decides the first token.",
        )
    else:
        yield criterion(
            "on_gain",
            select["gain"],
            ">=",
            thresholds.on_gain_min,
            "First-token accuracy gained over the base on unseen queries.",
        )
    yield criterion(
        "off_delta_p99_select",
        off["select"]["stress"]["delta_p99"],
        "<=",
        thresholds.off_delta_p99_max,
        f"Effect on OFF texts, 99th percentile of Delta (nats); {beside(off)}.",
    )
    yield criterion(
        "delta_on_mean_select",
        select["delta_on_mean"],
        ">=",
        thresholds.delta_on_min,
        "The slots do something on ON queries (mean Delta, nats).",
    )
    yield criterion(
        "rel_kl_to_teacher_select",
        select["rel_kl_to_teacher"],
        "<=",
        thresholds.rel_kl_to_teacher_max,
        "Distance to the teacher as a share of the base's: 0 is the teacher, 1 no better than the base.",
    )
    if not by_format:
        yield criterion(
            "acc_select_vs_random",
            select["accuracy"],
            ">=",
            on["random"]["accuracy"],
            "The rule chooses better than chance: mean first-token accuracy of the random trials.",
        )
    yield criterion(
        "whole_select_vs_random",
        select["whole_answer"],
        ">=",
        on["random"]["whole_answer"],
        "Whole answers too: mean share of right ones in the random trials.",
    )


def _record(report: Report) -> dict[str, Any]:
    on, off = report["on"], report["off"]
    return {
        "phase2_on_acc_base": on["base"]["accuracy"],
        "phase2_on_acc_teacher": on["teacher"]["accuracy"],
        "phase2_on_acc_student_select": on["select"]["accuracy"],
        "phase2_on_acc_student_random_mean": on["random"]["accuracy"],
        **{f"phase2_on_whole_{name}": scores["whole_answer"] for name, scores in on.items()},
        "phase2_on_gain_select": on["select"]["gain"],
        "phase2_off_delta_p99_select": off["select"]["stress"]["delta_p99"],
        "phase2_delta_on_mean_select": on["select"]["delta_on_mean"],
        "phase2_rel_kl_to_teacher_select": on["select"]["rel_kl_to_teacher"],
        **verdicts("phase2", report),
    }


def _criteria(report: Report, config: Config) -> Iterator[GateCriterion]:
    limits, by_format = config.phase2.thresholds, report["episode"]["first_token"]["by_format"]
    yield from phase2_criteria(report["on"], report["off"], limits, by_format)
    yield from harm_criteria(report, "select", limits.harm)


KIND = Kind(
    phase=2,
    about="Select-KV",
    student="select",
    roles=("floor", "rival"),
    episode=episode_from_config,
    slots=lambda config: config.phase2.prefix_len,
    off_sizes=lambda config: dict.fromkeys(("typical", "stress"), config.phase2.eval.off_samples),
    trials=TRIALS,
    scorer=exact_match,
    criteria=_criteria,
    record=_record,
)
