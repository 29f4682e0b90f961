"""The gate on the original plans' model, downloaded from the hub: RUN_HF_TESTS=1 (3 GB, some minutes)."""

import os
from pathlib import Path

import pytest

from cedkv.config import load_config
from cedkv.gate import run_gate

PRESET = Path(__file__).parents[2] / "configs" / "qwen2.5-1.5b.yaml"
SMALL = ["episode.on_train=4", "phase2.eval.on_samples=8", "phase2.eval.off_samples=16"]

pytestmark = [
    pytest.mark.hub,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.environ.get("RUN_HF_TESTS") != "1", reason="downloads 3 GB; opt in with RUN_HF_TESTS=1"),
]


def test_gate_a_passes_on_the_hub_model_and_its_teacher_knows_the_relation(tmp_path):
    report = run_gate(load_config(PRESET, SMALL), out=tmp_path).data
    assert report["model"]["id"] == "Qwen/Qwen2.5-1.5B-Instruct"
    assert all(row["passed"] for row in report["gate_a"])
    assert report["on"]["teacher"]["accuracy"] > report["on"]["base"]["accuracy"]
