"""The gate of trained mixtures: as good as the demonstrations, harmless elsewhere, better than copies? Phase 3."""

from collections.abc import Iterator
from typing import Any

from cedkv.config import Config, Phase3Thresholds
from cedkv.episodes import episode_from_config
from cedkv.events import GateCriterion
from cedkv.gate.kinds.base import Kind, criterion, verdicts
from cedkv.gate.kinds.copied import TRIALS
from cedkv.gate.kinds.harmless import beside, harm_criteria
from cedkv.metrics import exact_match
from cedkv.report import CollapseBlock, CriterionRow, OffScores, OnScores, Report


def phase3_criteria(
    on: dict[str, OnScores],
    off: dict[str, dict[str, OffScores]],
    collapse: CollapseBlock,
    limits: Phase3Thresholds,
    by_format: bool = False,
) -> Iterator[GateCriterion]:
    """Whether the trained mixture is the teacher on the relation, harmless elsewhere, and better than copying.

    by_format : the first token tells nothing in this episode, so only whole answers count.
    """
    ced = on["ced"]
    yield from _harmless(off, limits)
    yield from _beside_select(ced, on["select"], by_format)
    yield from _beside_teacher(ced, on["teacher"], limits, by_format)
    yield criterion(
        "kl_to_teacher_ced",
        ced["kl_to_teacher"],
        "<=",
        limits.kl_to_teacher_max,
        f"KL(teacher || student) on unseen queries, nats; the base is at {on['base']['kl_to_teacher']:.2f}.",
    )
    yield criterion(
        "delta_on_mean", ced["delta_on_mean"], ">=", limits.delta_on_min, "The slots do something on ON queries (nats)."
    )
    if collapse["overlap_max"] is not None:  # slots without a mixture overlap in no token
        yield criterion(
            "slot_overlap_max",
            collapse["overlap_max"],
            "<=",
            limits.overlap_max,
            "Guardrail: no two slots mix the same tokens (1 is identical).",
        )


def _harmless(off: dict[str, dict[str, OffScores]], limits: Phase3Thresholds) -> Iterator[GateCriterion]:
    p99, demos_p99 = off["ced"]["stress"]["delta_p99"], off["teacher"]["stress"]["delta_p99"]
    yield criterion(
        "off_delta_p99_stress",
        p99,
        "<=",
        limits.off_delta_p99_stress_max,
        f"Effect on the fixed stress eval, 99th percentile of Delta (nats); {beside(off)}.",
    )
    yield criterion(
        "off_delta_p99_stress_vs_teacher",
        p99,
        "<=",
        demos_p99,
        "No more harmful than the demonstrations in the prompt (p99 of Delta, nats).",
    )


def _beside_select(ced: OnScores, select: OnScores, by_format: bool) -> Iterator[GateCriterion]:
    if by_format:
        yield criterion(
            "whole_ced_vs_select",
            ced["whole_answer"],
            ">=",
            select["whole_answer"],
            "At least Select-KV's share of right whole answers at the same S; format decides the first token.",
        )
    else:
        yield criterion(
            "acc_ced_vs_select",
            ced["accuracy"],
            ">=",
            select["accuracy"],
            "At least Select-KV's first-token accuracy at the same S.",
        )
    yield criterion(
        "kl_ced_vs_select", ced["kl_to_teacher"], "<=", select["kl_to_teacher"], "No farther from the teacher (nats)."
    )


def _beside_teacher(
    ced: OnScores, teacher: OnScores, limits: Phase3Thresholds, by_format: bool
) -> Iterator[GateCriterion]:
    if not by_format:
        yield criterion(
            "acc_ced_vs_teacher",
            ced["accuracy"],
            ">=",
            limits.acc_vs_teacher_min * teacher["accuracy"],
            f"At least {limits.acc_vs_teacher_min:.2f} of the teacher's first-token accuracy, "
            f"{teacher['accuracy']:.2f}.",
        )
    yield criterion(
        "whole_ced_vs_teacher",
        ced["whole_answer"],
        ">=",
        limits.whole_vs_teacher_min * teacher["whole_answer"],
        f"At least {limits.whole_vs_teacher_min:.2f} of the teacher's right whole answers, "
        f"{teacher['whole_answer']:.2f}.",
    )


def exploration_milestones(on: dict[str, OnScores], off: dict[str, dict[str, OffScores]]) -> list[CriterionRow]:
    """Goals worth watching that do not decide the gate: the distance to teacher, few-shot and Free-KV."""
    ced = on["ced"]
    goals = [
        criterion("acc_95_of_teacher", ced["accuracy"], ">=", 0.95 * on["teacher"]["accuracy"], "95 % of the teacher."),
        criterion(
            "whole_95_of_teacher",
            ced["whole_answer"],
            ">=",
            0.95 * on["teacher"]["whole_answer"],
            "95 % of the teacher's right whole answers.",
        ),
        criterion("kl_015", ced["kl_to_teacher"], "<=", 0.15, "KL(teacher || student) of 0.15 nats."),
        criterion(
            "acc_vs_few_shot", ced["accuracy"], ">=", on["few_shot"]["accuracy"], "Few-shot at equal tokens, accuracy."
        ),
        criterion(
            "whole_vs_few_shot",
            ced["whole_answer"],
            ">=",
            on["few_shot"]["whole_answer"],
            "Few-shot at equal tokens, whole answers.",
        ),
        criterion(
            "kl_vs_few_shot", ced["kl_to_teacher"], "<=", on["few_shot"]["kl_to_teacher"], "Few-shot, KL (nats)."
        ),
        criterion("kl_vs_free", ced["kl_to_teacher"], "<=", on["free"]["kl_to_teacher"], "Free-KV, KL (nats)."),
        criterion(
            "off_p99_vs_free",
            off["ced"]["stress"]["delta_p99"],
            "<=",
            off["free"]["stress"]["delta_p99"],
            "Free-KV, stress p99 of Delta (nats).",
        ),
    ]
    return [goal.as_row() for goal in goals]


def _record(report: Report) -> dict[str, Any]:
    on, off = report["on"], report["off"]
    return {
        **{f"phase3_on_acc_{name}": scores["accuracy"] for name, scores in on.items()},
        **{f"phase3_on_whole_{name}": scores["whole_answer"] for name, scores in on.items()},
        **{f"phase3_kl_to_teacher_{name}": scores["kl_to_teacher"] for name, scores in on.items()},
        **{f"phase3_off_delta_p99_stress_{name}": splits["stress"]["delta_p99"] for name, splits in off.items()},
        **verdicts("phase3", report),
    }


def _summary(report: Report) -> dict[str, Any]:
    """The student's own figures at the top of the report, and what is watched beside what decides."""
    student, training = report["off"]["ced"], report["training"]["ced"]
    return {
        "off_delta_p99_stress": student["stress"]["delta_p99"],
        "off_delta_p99_typical": student["typical"]["delta_p99"],
        **{name: training[name] for name in ("phase3_loss_on", "phase3_loss_off", "phase3_loss_str")},
        "lambda_off_trace": training["lambda_off_trace"],
        "topk_trace": training["topk_trace"],
        "correlations": training["correlations"],
        "success_criteria": report["gate_b"],
        "exploration_milestones": exploration_milestones(report["on"], report["off"]),
    }


def _criteria(report: Report, config: Config) -> Iterator[GateCriterion]:
    limits, by_format = config.phase3.thresholds, report["episode"]["first_token"]["by_format"]
    yield from phase3_criteria(report["on"], report["off"], report["collapse"], limits, by_format)
    yield from harm_criteria(report, "ced", limits.harm)


KIND = Kind(
    phase=3,
    about="trained mixtures",
    student="ced",
    roles=("floor", "rival", "free lunch", "student", "ceiling"),
    episode=episode_from_config,
    slots=lambda config: config.phase3.slots,
    off_sizes=lambda config: {
        "typical": config.phase2.eval.off_samples,
        "stress": config.phase3.off_data.stress_samples,
    },
    trials=TRIALS,
    scorer=exact_match,
    criteria=_criteria,
    record=_record,
    summary=_summary,
)
