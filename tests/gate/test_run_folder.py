"""What a run leaves behind: whole files, a config that gives the same run again, and a readable rest if cut short."""

import json

import pytest

from cedkv.config import load_config
from cedkv.errors import ConfigError, OutputError
from cedkv.events import Done, GateCriterion, Opened, Progress, Sample
from cedkv.gate import iter_gate, run_gate
from cedkv.state import KVPrefix
from tests.gate.reports import records
from tests.tiny import tiny_lm

DIFFERENT_EACH_TIME = ("run_id", "timing")


def test_the_folder_holds_the_files_of_the_contract(report):
    found = {str(path.relative_to(report.folder)) for path in report.folder.rglob("*") if path.is_file()}
    assert found == {
        "report_phase2.json",
        "metrics.jsonl",
        "config.yaml",
        "artifacts/phase2_selection.json",
        "artifacts/phase2_few_shot.json",
        "artifacts/phase2_prefix_meta.json",
        "artifacts/hf_runtime_meta.json",
        "artifacts/select.safetensors",
        "artifacts/few_shot.safetensors",
        "artifacts/random.safetensors",
    }


def test_the_config_read_again_is_the_same(report, small_config):
    assert load_config(report.folder / "config.yaml") == small_config


def test_two_runs_with_one_seed_agree_in_every_number(two_reports):
    first, second = (
        {key: value for key, value in report.data.items() if key not in DIFFERENT_EACH_TIME} for report in two_reports
    )
    assert first == second
    assert records(two_reports[0].folder) == records(two_reports[1].folder)


def test_another_seed_gives_other_numbers(report, small_config, tmp_path):
    run = small_config.run.model_copy(update={"seed": 1})
    other = run_gate(small_config.model_copy(update={"run": run}), lm=tiny_lm("llama"), out=tmp_path)
    assert other.data["on"]["teacher"] != report.data["on"]["teacher"]


def test_the_state_says_what_it_was_made_of(report, small_config):
    meta = KVPrefix.load(report.folder / "artifacts" / "select.safetensors").meta
    assert (meta["method"], meta["task"], meta["model"]) == ("select", "present-past", tiny_lm("llama").id)
    assert meta["template"] == "Q: {input}\nA: {output}\n\n"
    assert meta["settings"] == json.loads(small_config.model_dump_json())


def test_the_events_tell_the_run_in_order(small_config, tmp_path):
    events = list(iter_gate(small_config, lm=tiny_lm("llama"), out=tmp_path))
    kinds = [type(event) for event in events]
    assert kinds.index(Progress) < kinds.index(Opened) < kinds.index(Sample) < kinds.index(GateCriterion)
    assert kinds[-1] is Done
    assert kinds.count(GateCriterion) == 11
    assert kinds.count(Sample) == sum(row["type"] == "sample" for row in records(events[-1].result.folder))


@pytest.mark.parametrize("stage", [Opened, Sample, GateCriterion])
def test_a_cancelled_run_leaves_a_readable_report_marked_incomplete(stage, small_config, tmp_path):
    events = iter_gate(small_config, lm=tiny_lm("llama"), out=tmp_path)
    seen = 0
    for event in events:
        seen += isinstance(event, Sample)
        if isinstance(event, stage):
            break
    events.close()

    (folder,) = tmp_path.iterdir()
    left = json.loads((folder / "report_phase2.json").read_text(encoding="utf-8"))
    assert (left["complete"], left["passed"]) == (False, False)
    assert load_config(folder / "config.yaml") == small_config
    if seen:
        assert len(records(folder)) == seen
    if stage is GateCriterion:
        assert KVPrefix.load(folder / "artifacts" / "select.safetensors").slots
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")], "no half-written file stays"


def test_a_phase_that_does_not_exist_is_named(small_config, tmp_path):
    with pytest.raises(ConfigError, match="phase 7 does not exist; choose from 2, 3"):
        list(iter_gate(small_config, 7, lm=tiny_lm("llama"), out=tmp_path))


def test_an_output_folder_that_cannot_be_made_is_named(small_config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"output folder .*file/.* cannot be made: Not a directory; choose another"):
        list(iter_gate(small_config, lm=tiny_lm("llama"), out=tmp_path / "file"))
