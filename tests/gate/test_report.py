"""The report's contract: fields, shapes, and numbers that agree with each other and with metrics.jsonl."""

import json
import math
import re
from pathlib import Path

import pytest

from cedkv.harm import YARDSTICKS
from tests.gate.reports import records, samples, unnamed

VIEWS = ["base", "teacher", "select", "few_shot", "random", "few_shot_random"]
DOCS = Path(__file__).parents[2] / "docs" / "report.md"


@pytest.fixture(scope="module")
def data(report) -> dict:
    """The report as a reader finds it on the disk."""
    return json.loads((report.folder / "report_phase2.json").read_text(encoding="utf-8"))


def test_the_file_is_the_report(report, data):
    assert data == json.loads(json.dumps(report.data))
    assert data["complete"] is True
    assert data["run_id"] == report.folder.name


def test_its_type_names_every_field(data):
    assert unnamed(data) == []
    misspelt = {**data, "slots": [{**data["slots"][0], "positon": 3}], "seed": "1"}
    assert unnamed(misspelt) == [("seed",), ("slots", 0, "positon")]


def test_it_has_every_field_of_the_contract(data):
    assert data.keys() >= {
        "gate_a", "gate_b", "passed", "run_id", "seed", "model", "episode", "on", "off", "collapse", "role_mass",
        "slots", "timing", "versions",
    }  # fmt: skip
    assert data["model"].keys() >= {"id", "fingerprint", "dtype", "device"}
    assert data["episode"].keys() >= {"task", "demos", "tokens", "template"}


def test_gate_a_and_gate_b_have_their_criteria(data):
    assert [row["name"] for row in data["gate_a"]] == [
        "teacher_incremental_consistency",
        "null_effect",
        "nonzero_effect",
        "roundtrip_rel_kl",
        "repeat_tolerance",
    ]
    assert [row["name"] for row in data["gate_b"]] == [
        "on_gain",
        "off_delta_p99_select",
        "delta_on_mean_select",
        "rel_kl_to_teacher_select",
        "acc_select_vs_random",
        "whole_select_vs_random",
    ]


def test_every_verdict_follows_from_its_value_and_threshold(data):
    rows = data["gate_a"] + data["gate_b"]
    for row in rows:
        assert row.keys() >= {"name", "value", "op", "threshold", "passed"}
        holds = row["value"] <= row["threshold"] if row["op"] == "<=" else row["value"] >= row["threshold"]
        assert row["passed"] is holds, row["name"]
    assert data["passed"] is all(row["passed"] for row in rows)


def test_every_view_is_judged_on_and_off(data):
    assert list(data["on"]) == VIEWS and list(data["off"]) == [*VIEWS, *YARDSTICKS]
    for view in VIEWS:
        assert data["on"][view].keys() >= {
            "accuracy", "gain", "kl_to_teacher", "rel_kl_to_teacher", "answer_logprob_gain", "delta_on_mean",
            "whole_answer", "answer_logprob",
        }  # fmt: skip
    for view in data["off"]:
        for split in ("typical", "stress"):
            stats = data["off"][view][split]
            assert {"count", "delta_mean", "delta_p99", "delta_max"} <= stats.keys()
            assert stats["count"] == 10 == sum(bucket["count"] for bucket in stats["buckets"].values())
            assert stats["delta_mean"] <= stats["delta_p99"] <= stats["delta_max"]


def test_the_base_has_no_effect_and_the_teacher_no_distance_to_itself(data):
    base, teacher = data["on"]["base"], data["on"]["teacher"]
    assert (base["gain"], base["delta_on_mean"], base["answer_logprob_gain"]) == pytest.approx((0, 0, 0), abs=1e-6)
    assert teacher["kl_to_teacher"] == pytest.approx(0, abs=1e-6)
    assert data["off"]["base"]["stress"]["delta_max"] == pytest.approx(0, abs=1e-6)


def test_slots_roles_and_collapse_describe_the_student(data):
    assert len(data["slots"]) == data["slots_budget"] == 16
    for slot in data["slots"]:
        assert slot["active"] is bool(slot["tokens"])
        assert sum(token["weight"] for token in slot["tokens"]) == pytest.approx(1 if slot["active"] else 0)
    assert sum(data["role_mass"]["mean"].values()) == pytest.approx(1)
    assert data["collapse"]


def test_the_samples_are_one_per_view_and_query_or_text(report):
    for view in ("base", "teacher", "select", "few_shot"):
        assert len(samples(report, kind="on", view=view)) == 6
        for split in ("typical", "stress"):
            assert len(samples(report, kind="off", view=view, split=split)) == 10


def test_every_sample_has_its_keys(report):
    for row in samples(report, kind="on", view="select"):
        assert row["type"] == "sample"
        assert row.keys() >= {"input", "gold", "answer", "correct", "whole", "phase2_delta_on_select"}
        assert math.isfinite(row["phase2_answer_logprob_gain"])
    for row in samples(report, kind="off", view="select"):
        assert row.keys() >= {"bucket", "text", "phase2_delta_off_select"}


def test_the_means_of_the_samples_are_in_the_report(report, data):
    correct = [row["correct"] for row in samples(report, kind="on", view="teacher")]
    whole = [row["whole"] for row in samples(report, kind="on", view="teacher")]
    delta = [row["phase2_delta_off_select"] for row in samples(report, kind="off", view="select", split="stress")]
    assert data["on"]["teacher"]["accuracy"] == pytest.approx(sum(correct) / len(correct))
    assert data["on"]["teacher"]["whole_answer"] == pytest.approx(sum(whole) / len(whole))
    assert data["off"]["select"]["stress"]["delta_mean"] == pytest.approx(sum(delta) / len(delta), rel=1e-5)


def test_every_chosen_span_has_both_scores(report):
    spans = samples(report, kind="span")
    chosen = json.loads((report.folder / "artifacts" / "phase2_selection.json").read_text(encoding="utf-8"))["spans"]
    assert [(row["start"], row["end"]) for row in spans] == [(span["start"], span["end"]) for span in chosen]
    assert [row["order"] for row in spans] == list(range(len(chosen)))
    for row in spans:
        assert row["view"] == "select"
        assert 0 <= row["phase2_selection_score_attention"] <= 1
        assert math.isfinite(row["phase2_selection_score_causal_drop"])
    # The first choice has no rival yet, so its score is the plain one of the rule that chose.
    assert spans[0]["phase2_selection_score_attention"] == pytest.approx(chosen[0]["score"])


def test_the_run_record_is_last_and_repeats_the_report(report, data):
    *_, last = records(report.folder)
    assert [row["type"] for row in records(report.folder)].count("run") == 1
    on, off = data["on"], data["off"]
    assert last == {
        "type": "run",
        "phase2_on_acc_base": on["base"]["accuracy"],
        "phase2_on_acc_teacher": on["teacher"]["accuracy"],
        "phase2_on_acc_student_select": on["select"]["accuracy"],
        "phase2_on_acc_student_random_mean": on["random"]["accuracy"],
        **{f"phase2_on_whole_{view}": on[view]["whole_answer"] for view in VIEWS},
        "phase2_on_gain_select": on["select"]["gain"],
        "phase2_off_delta_p99_select": off["select"]["stress"]["delta_p99"],
        "phase2_delta_on_mean_select": on["select"]["delta_on_mean"],
        "phase2_rel_kl_to_teacher_select": on["select"]["rel_kl_to_teacher"],
        "phase2_gateA_pass": all(row["passed"] for row in data["gate_a"]),
        "phase2_gateB_pass": all(row["passed"] for row in data["gate_b"]),
    }


def test_the_documentation_names_every_field(report, data):
    documented = set(re.findall(r"[\w.]+", " ".join(re.findall(r"`([^`]+)`", DOCS.read_text(encoding="utf-8")))))
    fields = set(data) | {key for block in ("model", "episode", "role_mass", "collapse") for key in data[block]}
    fields |= {key for view in data["on"].values() for key in view} | set(data["episode"]["first_token"])
    fields |= {key for view in data["off"].values() for key in view["stress"]}
    fields |= set(data["gate_a"][0]) | set(data["slots"][0]) | set(data["timing"])
    fields |= {token_key for slot in data["slots"] for token in slot["tokens"] for token_key in token}
    for record in records(report.folder):
        fields |= {re.sub(r"(_delta_(on|off))_.*", r"\1", key) for key in record if record["type"] == "sample"}
        run = set(record) if record["type"] == "run" else set()
        fields |= {re.sub(r"(_on_whole_).*", r"\1", key) for key in run}
    assert sorted(fields - documented) == []
