"""The whole phase-2 gate on a tiny random model of every architecture: it ends, and its plumbing is sound."""

import pytest

from cedkv.config import load_config
from cedkv.evaluation import Judge
from cedkv.gate import run_gate
from tests.gate.reports import SMALL
from tests.tiny import ARCHITECTURES, tiny_lm


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gate_a_passes_on_every_architecture(architecture, tmp_path):
    report = run_gate(load_config(None, SMALL), lm=tiny_lm(architecture), out=tmp_path)
    failed = [row for row in report.data["gate_a"] if not row["passed"]]
    assert failed == []
    assert report.data["complete"]
    assert report.data["model"]["architecture"] == architecture


@pytest.mark.parametrize(
    "setting",
    [
        "phase2.select.mode=delimiter_span",
        "phase2.select.mode=random_span",
        "phase2.select.mode=causal_drop_span",
        "phase2.select.source=reprefill",
        "phase2.select.align=demo",
        "phase2.select.keep_sink=false",
        "phase2.select.center_policy=center",
        "phase2.injection.positioning_mode=absolute",
        "phase2.prefix.padding_mode=shrink_to_selected",
        "phase2.layer_scope={selection: top25, injection: [0, -1]}",
        "phase2.eval.decoding=sample",
        "phase2.prefix_len=3",
    ],
)
def test_every_setting_runs_and_keeps_the_plumbing_sound(setting, tmp_path):
    report = run_gate(load_config(None, [*SMALL, setting]), lm=tiny_lm("llama"), out=tmp_path)
    assert all(row["passed"] for row in report.data["gate_a"])
    assert report.data["complete"]


def test_sampled_answers_are_shown_and_greedy_ones_are_judged(tmp_path, monkeypatch):
    """The random choices' are greedy, and the gate holds one against the other."""
    monkeypatch.setattr(Judge, "right", lambda self, answers: [sum(map(ord, answer)) % 2 == 0 for answer in answers])
    greedy, sampled = (
        run_gate(load_config(None, [*SMALL, f"phase2.eval.decoding={name}"]), lm=tiny_lm("llama"), out=tmp_path).data
        for name in ("greedy", "sample")
    )
    assert [on["whole_answer"] for on in sampled["on"].values()] == [on["whole_answer"] for on in greedy["on"].values()]


def test_a_random_model_has_learnt_nothing_and_fails_gate_b(tmp_path):
    report = run_gate(load_config(None, SMALL), lm=tiny_lm("llama"), out=tmp_path)
    on_gain = next(row for row in report.data["gate_b"] if row["name"] == "on_gain")
    assert not on_gain["passed"]
    assert not report.passed
