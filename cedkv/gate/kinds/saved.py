"""The gate of a saved state: it stands where a kind's own student would, and nothing is trained."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from cedkv.config import Config
from cedkv.events import GateCriterion
from cedkv.gate.kinds.base import Kind, verdicts
from cedkv.methods import METHODS
from cedkv.report import Report
from cedkv.state import KVPrefix

# The name of a view whose state comes from a file.
SAVED = "state"
# What costs no training and is judged beside it.
_BESIDE = ("floor", "rival")
# Blocks of a report that tell of views by name.
_BY_VIEW = ("on", "off", "continued", "choice")


def in_place_of_student(kind: Kind, state: KVPrefix) -> Kind:
    """The kind with a saved state as its student, on as many slots, beside the floors and rivals."""

    def criteria(report: Report, config: Config) -> Iterator[GateCriterion]:
        blocks = cast(dict[str, Any], report)
        renamed = {name: {**blocks[name], kind.student: blocks[name][SAVED]} for name in _BY_VIEW if name in blocks}
        for criterion in kind.criteria(cast(Report, {**blocks, **renamed}), config):
            yield replace(criterion, name=criterion.name.replace(kind.student, SAVED))

    return replace(
        kind,
        about="a saved state",
        student=SAVED,
        roles=tuple(role for role in kind.roles if role in _BESIDE and role != METHODS[kind.student].gate_role),
        given={SAVED: state},
        slots=lambda config: state.slots,
        criteria=criteria,
        record=_record,
        summary=lambda report: {},
    )


def _record(report: Report) -> dict[str, Any]:
    return {
        "state_on_acc": report["on"][SAVED]["accuracy"],
        "state_on_whole": report["on"][SAVED]["whole_answer"],
        "state_kl_to_teacher": report["on"][SAVED]["kl_to_teacher"],
        "state_off_delta_p99_stress": report["off"][SAVED]["stress"]["delta_p99"],
        **verdicts("state", report),
    }
