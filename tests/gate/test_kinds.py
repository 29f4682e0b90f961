"""A new kind of gate: one definition and one line of the registry, run like those there are."""

import json

import pytest

from cedkv.cli import main
from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.events import Done, GateCriterion
from cedkv.gate import iter_gate
from cedkv.gate.kinds import KINDS, Kind
from cedkv.gate.kinds.base import Trial, criterion, verdicts
from cedkv.methods.few_shot import few_shot_trial
from tests.gate.reports import SMALL, records, samples
from tests.tiny import tiny_lm, tiny_path


def any_answer(generated, gold, stop):
    """Right is whatever was said for the first half of the queries."""
    return [place < len(gold) // 2 for place, _ in enumerate(zip(generated, gold, strict=True))]


def harm(report, config):
    few, teacher = (report["off"][name]["stress"]["delta_p99"] for name in ("few_shot", "teacher"))
    yield criterion("off_p99_few_shot", few, "<=", 10 * teacher, "Ten times the teacher's effect at most.")


FEW = Kind(
    phase=9,
    about="few-shot",
    student="few_shot",
    roles=("rival",),
    episode=episode_from_config,
    slots=lambda config: 40,
    off_sizes=lambda config: {"typical": 8, "stress": 9},
    trials={"drawn": Trial(few_shot_trial, kept=True)},
    scorer=any_answer,
    criteria=harm,
    record=lambda report: {"few_acc": report["on"]["few_shot"]["accuracy"], **verdicts("few", report)},
    summary=lambda report: {"harm": report["off"]["few_shot"]["stress"]["delta_p99"]},
)


@pytest.fixture
def registered(monkeypatch) -> Kind:
    monkeypatch.setitem(KINDS, FEW.phase, FEW)
    return FEW


@pytest.fixture
def events(registered, tmp_path) -> list:
    return list(iter_gate(load_config(None, SMALL), 9, lm=tiny_lm("llama"), out=tmp_path))


def test_it_is_judged_by_its_own_trials_scorer_and_criteria(events):
    assert isinstance(events[-1], Done)
    report = events[-1].result
    data = json.loads((report.folder / "report_phase9.json").read_text(encoding="utf-8"))
    assert data == json.loads(json.dumps(report.data))
    assert (data["phase"], data["slots_budget"], data["complete"]) == (9, 40, True)
    assert list(data["on"]) == ["base", "teacher", "few_shot", "drawn"]
    assert {scores["whole_answer"] for scores in data["on"].values()} == {0.5}
    assert {name: data["off"]["few_shot"][name]["count"] for name in ("typical", "stress")} == {
        "typical": 8, "stress": 9,
    }  # fmt: skip
    assert [row.name for row in events if isinstance(row, GateCriterion) and row.gate == "B"] == ["off_p99_few_shot"]
    assert data["harm"] == data["gate_b"][0]["value"] == data["off"]["few_shot"]["stress"]["delta_p99"]
    assert data["passed"] == all(row["passed"] for row in data["gate_a"] + data["gate_b"])
    assert (report.folder / "artifacts" / "drawn.safetensors").is_file()


def test_its_records_carry_its_names(events):
    report = events[-1].result
    assert all("phase9_delta_off_few_shot" in row for row in samples(report, kind="off", view="few_shot"))
    last = records(report.folder)[-1]
    assert last == {
        "type": "run",
        "few_acc": report.data["on"]["few_shot"]["accuracy"],
        "few_gateA_pass": all(row["passed"] for row in report.data["gate_a"]),
        "few_gateB_pass": report.data["gate_b"][0]["passed"],
    }


def test_a_saved_state_stands_in_for_its_student(events, tmp_path):
    state = events[-1].result.folder / "artifacts" / "few_shot.safetensors"
    *_, done = iter_gate(load_config(None, SMALL), 9, lm=tiny_lm("llama"), out=tmp_path, state=state)
    report = done.result.data
    assert list(report["on"]) == ["base", "teacher", "state", "drawn"]
    assert report["gate_b"][0]["name"] == "off_p99_state"
    assert report["on"]["state"]["accuracy"] == events[-1].result.data["on"]["few_shot"]["accuracy"]


def test_it_is_a_choice_of_the_command(registered, tmp_path, capsys):
    overrides = [flag for override in SMALL for flag in ("--set", override)]
    main(["gate", "--phase", "9", "--model", str(tiny_path("llama")), "--out", str(tmp_path), *overrides])
    assert "off_p99_few_shot" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["gate", "--help"])
    assert "9: few-shot" in " ".join(capsys.readouterr().out.split())
