"""A state of unconstrained slots has no mixture: it is saved, read and judged like any other."""

from dataclasses import replace

import pytest

from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.gate import run_gate
from cedkv.methods import extract
from cedkv.state import KVPrefix
from tests.bench.conftest import SHORT
from tests.gate.reports import SMALL
from tests.tiny import tiny_lm, tiny_path

SETTINGS = ["episode.task=capitalize", f"run.model.id={tiny_path('llama')}", *SMALL, *SHORT]


@pytest.fixture
def path(tmp_path):
    lm, config = tiny_lm("llama"), load_config(None, SETTINGS)
    state = extract(lm, episode_from_config(lm, config), "free", 4, config).prefix
    state.save(tmp_path / "free.safetensors")
    return tmp_path / "free.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("phase", [2, 3])
def test_the_gate_judges_a_saved_state_without_a_mixture(path, tmp_path, phase):
    report = run_gate(load_config(None, SETTINGS), phase, lm=tiny_lm("llama"), out=tmp_path / "runs", state=path)
    data = report.data
    assert data["complete"]
    assert data["state"] == {"file": str(path), "method": "free", "precision": None}
    assert (data["slots"], data["role_mass"], data["collapse"]["overlap_max"]) == ([], {}, None)
    assert all(row["passed"] for row in data["gate_a"])
    assert data["gate_b"]
    assert "slot_overlap_max" not in {row["name"] for row in data["gate_b"]}, "nothing is mixed, so nothing overlaps"
    (written,) = report.folder.glob("artifacts/state.safetensors")
    assert KVPrefix.load(written, tiny_lm("llama").fingerprint).mixture is None


@pytest.mark.slow
def test_without_its_mixture_a_state_answers_the_same(path, tmp_path):
    """Only keys and values are injected; the mixture is there to be read."""
    lm, config = tiny_lm("llama"), load_config(None, SETTINGS)
    mixed = extract(lm, episode_from_config(lm, config), "ced", 4, config).prefix
    mixed.save(tmp_path / "mixed.safetensors")
    replace(mixed, mixture=None).save(tmp_path / "bare.safetensors")
    with_mixture, without = (
        run_gate(config, 3, lm=lm, out=tmp_path / name, state=tmp_path / f"{name}.safetensors").data
        for name in ("mixed", "bare")
    )
    assert with_mixture["on"] == without["on"]
    assert with_mixture["off"] == without["off"]
    assert with_mixture["collapse"]["overlap_max"] is not None
