"""What differs between the phases of the gate: which methods run, on how many slots, judged by which criteria."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from cedkv.config import Config
from cedkv.events import GateCriterion
from cedkv.gate.verdicts import exploration_milestones, phase2_criteria, phase3_criteria
from cedkv.methods import METHODS, methods_in

# The name of a view whose state comes from a file.
SAVED = "state"


@dataclass(frozen=True)
class Phase:
    """One phase. The methods that have one of `roles` run in order; `student` is the one whose gate it is.

    given : views whose states are there already.
    """

    number: int
    student: str
    roles: tuple[str, ...]
    slots: Callable[[Config], int]
    off_sizes: Callable[[Config], dict[str, int]]
    criteria: Callable[[dict[str, Any], Config], Iterator[GateCriterion]]
    run_record: Callable[[dict[str, Any]], dict[str, Any]]
    summary: Callable[[dict[str, Any]], dict[str, Any]]
    given: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        return (*methods_in(*self.roles), *self.given)


def _phase2_record(report: dict[str, Any]) -> dict[str, Any]:
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
        "phase2_gateA_pass": all(row["passed"] for row in report["gate_a"]),
        "phase2_gateB_pass": all(row["passed"] for row in report["gate_b"]),
    }


def _phase3_record(report: dict[str, Any]) -> dict[str, Any]:
    on, off = report["on"], report["off"]
    return {
        **{f"phase3_on_acc_{name}": scores["accuracy"] for name, scores in on.items()},
        **{f"phase3_on_whole_{name}": scores["whole_answer"] for name, scores in on.items()},
        **{f"phase3_kl_to_teacher_{name}": scores["kl_to_teacher"] for name, scores in on.items()},
        **{f"phase3_off_delta_p99_stress_{name}": splits["stress"]["delta_p99"] for name, splits in off.items()},
        "phase3_gateA_pass": all(row["passed"] for row in report["gate_a"]),
        "phase3_gateB_pass": all(row["passed"] for row in report["gate_b"]),
    }


def _phase3_summary(report: dict[str, Any]) -> dict[str, Any]:
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


PHASES = {
    2: Phase(
        number=2,
        student="select",
        roles=("floor", "rival"),
        slots=lambda config: config.phase2.prefix_len,
        off_sizes=lambda config: dict.fromkeys(("typical", "stress"), config.phase2.eval.off_samples),
        criteria=lambda report, config: phase2_criteria(
            report["on"], report["off"], config.phase2.thresholds, report["episode"]["first_token"]["by_format"]
        ),
        run_record=_phase2_record,
        summary=lambda report: {},
    ),
    3: Phase(
        number=3,
        student="ced",
        roles=("floor", "rival", "free lunch", "student", "ceiling"),
        slots=lambda config: config.phase3.slots,
        off_sizes=lambda config: {
            "typical": config.phase2.eval.off_samples,
            "stress": config.phase3.off_data.stress_samples,
        },
        criteria=lambda report, config: phase3_criteria(
            report["on"],
            report["off"],
            report["collapse"],
            config.phase3.thresholds,
            report["episode"]["first_token"]["by_format"],
        ),
        run_record=_phase3_record,
        summary=_phase3_summary,
    ),
}


def saved_state_phase(number: int, slots: int) -> Phase:
    """A phase whose student comes from a file: it stands where the phase's own student would, nothing is trained."""
    phase = PHASES[number]
    beside = tuple(role for role in ("floor", "rival") if role != METHODS[phase.student].gate_role)

    def criteria(report: dict[str, Any], config: Config) -> Iterator[GateCriterion]:
        blocks = {name: {**report[name], phase.student: report[name][SAVED]} for name in ("on", "off")}
        for criterion in phase.criteria({**report, **blocks}, config):
            yield replace(criterion, name=criterion.name.replace(phase.student, SAVED))

    return replace(
        phase,
        student=SAVED,
        roles=beside,
        given=(SAVED,),
        slots=lambda config: slots,
        criteria=criteria,
        run_record=_saved_record,
        summary=lambda report: {},
    )


def _saved_record(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "state_on_acc": report["on"][SAVED]["accuracy"],
        "state_on_whole": report["on"][SAVED]["whole_answer"],
        "state_kl_to_teacher": report["on"][SAVED]["kl_to_teacher"],
        "state_off_delta_p99_stress": report["off"][SAVED]["stress"]["delta_p99"],
        "state_gateA_pass": all(row["passed"] for row in report["gate_a"]),
        "state_gateB_pass": all(row["passed"] for row in report["gate_b"]),
    }
