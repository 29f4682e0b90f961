"""Harm in a gate: what is measured stands in the report, and a gate asks what it is told to ask and nothing else."""

import pytest

from cedkv.cli.gate import harm_table, views_table
from cedkv.config import HarmThresholds, load_config
from cedkv.errors import ConfigError
from cedkv.gate import run_gate
from cedkv.gate.kinds.harmless import beside, harm_criteria
from cedkv.harm import YARDSTICKS
from cedkv.report import of_harm
from tests.gate.reports import SMALL, unnamed
from tests.tiny import tiny_lm

HARM = "phase2.eval.harm={real_pieces: 5, real_tokens: 16, foreign_texts: 4, continuations: 2, questions: 3}"
# What a random model keeps, and what no state can.
ASKED = "phase2.thresholds.harm={real_delta_p99_max: 1000, perplexity_ratio_max: 1.0e-6, same_continuations_min: 0}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_gate(load_config(None, [*SMALL, HARM, ASKED]), lm=tiny_lm("llama"), out=tmp_path_factory.mktemp("runs"))


def test_every_measure_stands_in_the_report(finished):
    data = finished.data
    views = {"teacher", "select", "few_shot", *YARDSTICKS}
    assert {view for view in data["off"] if "real_text" in data["off"][view]} == views
    assert {view for view in data["off"] if "foreign" in data["off"][view]} == views
    assert data["continued"].keys() == data["choice"].keys() == views
    assert unnamed(data) == []
    assert {"judge_yardsticks", "judge_harm"} <= data["timing"].keys()


def test_a_gate_asks_what_is_set(finished):
    rows = {row["name"]: row for row in finished.data["gate_b"]}
    real = finished.data["off"]["select"]["real_text"]
    assert rows["off_real_text_delta_p99"]["value"] == real["delta_p99"] and rows["off_real_text_delta_p99"]["passed"]
    assert not rows["off_real_text_perplexity_ratio"]["passed"]
    assert rows["same_continuations"]["passed"]
    assert "off_foreign_delta_p99" not in rows and "choice_loss" not in rows
    assert not finished.passed


def test_the_tables_show_the_yardsticks(finished):
    shown = views_table(finished.data)
    assert all(name in shown for name in YARDSTICKS)
    harm = harm_table(finished.data)
    assert f"{finished.data['off']['neutral_paragraph']['real_text']['perplexity_ratio']:.3f}" in harm
    unread = {**finished.data, "off": {"select": {"stress": finished.data["off"]["select"]["stress"]}}}
    del unread["continued"], unread["choice"]
    assert harm_table(unread) == ""


def test_a_saved_state_is_asked_the_same(finished, tmp_path):
    """The student's name stands for the file's state wherever a criterion reads."""
    state = finished.folder / "artifacts" / "select.safetensors"
    asked = [*SMALL, HARM, ASKED.replace("}", ", choice_loss_max: 1}")]
    data = run_gate(load_config(None, asked), lm=tiny_lm("llama"), out=tmp_path, state=str(state)).data
    rows = {row["name"]: row["value"] for row in data["gate_b"]}
    assert rows["same_continuations"] == data["continued"]["state"]["same_first"]["8"]
    assert rows["choice_loss"] == data["choice"]["state"]["base"] - data["choice"]["state"]["accuracy"]


@pytest.mark.parametrize("phase", ["phase2", "phase3"])
def test_a_bound_on_what_is_not_read_is_refused(phase):
    with pytest.raises(ConfigError, match=rf"{phase}.thresholds.harm.choice_loss_max is set, .*questions is 0"):
        load_config(None, [f"{phase}.thresholds.harm.choice_loss_max=0.1"])


def test_bounds_by_hand():
    def scores(p99):
        return {"count": 9, "delta_mean": 0.1, "delta_p99": p99, "delta_max": p99, "buckets": {}}

    off = {name: {"stress": scores(p99)} for name, p99 in {"it": 1.5, "teacher": 4.2, "neutral_paragraph": 2.0}.items()}
    assert beside(off) == "the demonstrations score 4.20, an ordinary paragraph 2.00"
    report = {"off": off, "choice": {"it": {"count": 10, "accuracy": 0.7, "base": 0.8, "agreement": 0.9}}}
    limits = HarmThresholds(paragraph_share_max=0.7, choice_loss_max=0.2)
    share, loss = harm_criteria(report, "it", limits)
    assert (share.value, share.threshold, share.passed) == (1.5, pytest.approx(1.4), False)
    assert (loss.value, loss.passed) == (pytest.approx(0.1), True)
    assert list(harm_criteria(report, "it", HarmThresholds())) == []


def test_every_bound_on_harm_is_known_as_one():
    """The inspector tells by it whether a state is harmless."""
    figures = {"delta_mean": 0.1, "delta_p99": 0.1, "perplexity_ratio": 1.0}
    off = {name: {"stress": figures, "real_text": figures, "foreign": figures} for name in ("it", "neutral_paragraph")}
    scores = {"continued": {"it": {"same_first": {"8": 1.0}}}, "choice": {"it": {"base": 0.8, "accuracy": 0.8}}}
    limits = HarmThresholds(**dict.fromkeys(HarmThresholds.model_fields, 0.5))
    rows = [found.as_row() for found in harm_criteria({"off": off, **scores}, "it", limits)]
    assert len(rows) == len(HarmThresholds.model_fields) and all(map(of_harm, rows))
