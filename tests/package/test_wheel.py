"""The wheel alone, away from the repository, does what the README shows."""

import json
import zipfile

from cedkv.lm.weighing import SHIPPED
from tests.gate.reports import SMALL
from tests.tiny import tiny_path

SHORT = [
    *SMALL,
    "phase3.optim.steps=2",
    "phase3.optim.on_batch=2",
    "phase3.optim.off_batch=3",
    "phase3.optim.matching_iterations=1",
    "phase3.optim.tick_stress_samples=8",
    "phase3.off_data.stress_samples=8",
    "phase3.off_data.pool_size=8",
    "phase3.off_data.candidates=8",
]
SETTINGS = [option for setting in SHORT for option in ("--set", setting)]


def test_the_wheel_declares_its_types_and_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "cedkv/py.typed" in names
    assert {f"cedkv/lm/directions/{file.name}" for file in SHIPPED.iterdir()} <= set(names)
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"cedkv"}


def test_the_engine_comes_from_the_wheel(outside, installed):
    home = outside("python", "-c", "import cedkv; print(cedkv.__file__)")
    assert home.stdout.startswith(str(installed)), home


def test_a_named_mixture_is_extracted_asked_and_inspected(outside, tmp_path):
    model, state = tiny_path("llama"), tmp_path / "state.safetensors"
    task = ["--task", "present-past", "--model", model, "--mixture", "no_outputs", "--slots", 3]

    made = outside("cedkv", "extract", *task, "--out", state, *SETTINGS)
    assert made.returncode == 0, made.stderr
    asked = outside("cedkv", "query", "--state", state, "jump")
    assert asked.returncode == 0, asked.stderr
    assert "base" in asked.stdout and "student" in asked.stdout
    shown = outside("cedkv", "inspect", state)
    assert shown.returncode == 0, shown.stderr
    assert "3, 3 of them switched on" in shown.stdout
    assert "phase3.mixture.value_candidates" in shown.stdout


def test_a_gate_leaves_its_report(outside, tmp_path):
    judged = outside(
        "cedkv", "gate", "--phase", 2, "--model", tiny_path("llama"), "--out", tmp_path / "runs", *SETTINGS
    )
    assert judged.returncode == 1, judged.stderr  # a random model passes no gate
    (report,) = (tmp_path / "runs").glob("*/report_phase2.json")
    assert json.loads(report.read_text())["passed"] is False
