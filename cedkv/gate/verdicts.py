"""Gate B: the criteria of each phase, read off the report's own numbers."""

from collections.abc import Iterator

from cedkv.config import Phase2Thresholds, Phase3Thresholds
from cedkv.events import GateCriterion


def phase2_criteria(
    on: dict, off: dict, thresholds: Phase2Thresholds, by_format: bool = False
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
            "on_gain", select["gain"], ">=", thresholds.on_gain_min, "Accuracy gained over the base on unseen queries."
        )
    yield criterion(
        "off_delta_p99_select",
        off["select"]["stress"]["delta_p99"],
        "<=",
        thresholds.off_delta_p99_max,
        "Effect on OFF texts, 99th percentile of Delta (nats); "
        f"the demonstrations in the prompt score {off['teacher']['stress']['delta_p99']:.2f}.",
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
            "The rule chooses better than chance: mean accuracy of the random trials.",
        )
    yield criterion(
        "whole_select_vs_random",
        select["whole_answer"],
        ">=",
        on["random"]["whole_answer"],
        "Whole answers too: mean share of right ones in the random trials.",
    )


def phase3_criteria(
    on: dict, off: dict, collapse: dict, limits: Phase3Thresholds, by_format: bool = False
) -> Iterator[GateCriterion]:
    """Whether the trained mixture is the teacher on the relation, harmless elsewhere, and better than copying.

    by_format : the first token tells nothing in this episode, so only whole answers count.
    """
    ced, select, teacher = on["ced"], on["select"], on["teacher"]
    p99, demos_p99 = off["ced"]["stress"]["delta_p99"], off["teacher"]["stress"]["delta_p99"]
    yield criterion(
        "off_delta_p99_stress",
        p99,
        "<=",
        limits.off_delta_p99_stress_max,
        f"Effect on the fixed stress eval, 99th percentile of Delta (nats); the demonstrations score {demos_p99:.2f}.",
    )
    yield criterion(
        "off_delta_p99_stress_vs_teacher",
        p99,
        "<=",
        demos_p99,
        "No more harmful than the demonstrations in the prompt (p99 of Delta, nats).",
    )
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
            "At least Select-KV's accuracy at the same S.",
        )
    yield criterion(
        "kl_ced_vs_select", ced["kl_to_teacher"], "<=", select["kl_to_teacher"], "No farther from the teacher (nats)."
    )
    if not by_format:
        yield criterion(
            "acc_ced_vs_teacher",
            ced["accuracy"],
            ">=",
            limits.acc_vs_teacher_min * teacher["accuracy"],
            f"At least {limits.acc_vs_teacher_min:.2f} of the teacher's accuracy, {teacher['accuracy']:.2f}.",
        )
    yield criterion(
        "whole_ced_vs_teacher",
        ced["whole_answer"],
        ">=",
        limits.whole_vs_teacher_min * teacher["whole_answer"],
        f"At least {limits.whole_vs_teacher_min:.2f} of the teacher's right whole answers, "
        f"{teacher['whole_answer']:.2f}.",
    )
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


def exploration_milestones(on: dict, off: dict) -> list[dict]:
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
    return [goal.as_dict() for goal in goals]


def criterion(name: str, value: float, op: str, threshold: float, about: str) -> GateCriterion:
    """A Gate B criterion with its verdict."""
    passed = value >= threshold if op == ">=" else value <= threshold
    return GateCriterion("B", name, value, op, threshold, passed, about)
