"""A gate that is told to stop: in a training, in a repeat, between two parts; and what is read only once."""

import json

import pytest

import cedkv.methods.base
from cedkv.config import Config, load_config
from cedkv.errors import Cancelled
from cedkv.events import GateCriterion, Progress, StepTrace
from cedkv.gate import iter_gate, run_gate
from cedkv.state import KVPrefix
from tests.optim.trainings import events_of
from tests.phase3.conftest import GATE
from tests.tiny import tiny_lm


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(None, [*GATE, "phase2.eval.repro_runs=3"])


def gate_until(wanted, config: Config, out, phase: int) -> list:
    """All events of a gate that is told to stop from the first wanted one on."""
    told, asked_to = [], []
    for event in iter_gate(config, phase, lm=tiny_lm("llama"), out=out, stop=lambda: bool(asked_to)):
        told.append(event)
        if wanted(event):
            asked_to.append(True)
    return told


@pytest.mark.parametrize("phase", [2, 3])
def test_a_stopped_run_gate_says_so_and_names_what_is_kept(config, tmp_path, phase):
    with pytest.raises(Cancelled) as error:
        run_gate(config, phase, lm=tiny_lm("llama"), out=tmp_path, stop=lambda: True)
    (folder,) = tmp_path.iterdir()
    assert str(folder) in str(error.value)
    left = json.loads((folder / f"report_phase{phase}.json").read_text(encoding="utf-8"))
    assert (left["complete"], left["passed"]) == (False, False)
    assert list(left["on"]) == ["base", "teacher"]


def test_a_repeat_stops_after_the_step_in_hand(config, tmp_path):
    told = gate_until(lambda event: isinstance(event, Progress) and event.stage == "repeating ced", config, tmp_path, 3)
    repeated = [event for event in events_of(told, Progress) if event.stage == "repeating ced"]
    assert [event.done for event in repeated] == [0]
    assert len(events_of(told, StepTrace)) == 2 * 8, "both trainings had come to their end"
    assert told[-1] == repeated[-1]
    assert "repeat_tolerance" not in [row.name for row in events_of(told, GateCriterion)]
    (folder,) = tmp_path.iterdir()
    assert KVPrefix.load(folder / "artifacts" / "ced.safetensors").slots


def test_no_further_repeat_begins(config, tmp_path):
    told = gate_until(lambda event: isinstance(event, GateCriterion), config, tmp_path, 2)
    assert not [event for event in events_of(told, GateCriterion) if event.name == "repeat_tolerance"]


def test_the_demonstrations_are_read_once_by_a_run_and_once_by_each_repeat(config, tmp_path, monkeypatch):
    read, readings = cedkv.methods.base.read_demonstrations, []

    def counted(lm, tokens, tail):
        readings.append(tokens)
        return read(lm, tokens, tail)

    monkeypatch.setattr(cedkv.methods.base, "read_demonstrations", counted)
    report = run_gate(config, 3, lm=tiny_lm("llama"), out=tmp_path)
    assert len(readings) == 1 + 2
    ticks = json.loads((report.folder / "artifacts" / "phase3_training_ced.json").read_text(encoding="utf-8"))["ticks"]
    assert all(tick["eval_accuracy"] is not None for tick in ticks), "the judge was watching"
