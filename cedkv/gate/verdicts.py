"""Gate B: the criteria of each phase, read off the report's own numbers."""

from collections.abc import Iterator

from cedkv.config import Phase2Thresholds
from cedkv.events import GateCriterion


def phase2_criteria(on: dict, off: dict, thresholds: Phase2Thresholds) -> Iterator[GateCriterion]:
    """Whether Select-KV works and is harmless enough; `on` and `off` are the report's blocks."""
    select = on["select"]
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
    yield criterion(
        "acc_select_vs_random",
        select["accuracy"],
        ">=",
        on["random"]["accuracy"],
        "The rule chooses better than chance: mean accuracy of the random trials.",
    )


def criterion(name: str, value: float, op: str, threshold: float, about: str) -> GateCriterion:
    """A Gate B criterion with its verdict."""
    passed = value >= threshold if op == ">=" else value <= threshold
    return GateCriterion("B", name, value, op, threshold, passed, about)
