"""The key of a cached extraction: whatever makes a state is in it, what only judges or shows it is not."""

import pytest

from cedkv import provenance
from cedkv.config import load_config
from cedkv.methods.cached import extraction_key
from tests.optim.trainings import SMALL, bench_with


def key(*overrides: str, method: str = "ced", slots: int = 4) -> str:
    bench = bench_with()
    return extraction_key(bench.lm, bench.episode, method, slots, load_config(None, [*SMALL, *overrides]))


@pytest.mark.parametrize(
    "override", ["phase2.eval.on_samples=4", "phase2.thresholds.on_gain_min=0.9", "phase2.reporting.topk_tokens=2"]
)
def test_what_only_judges_or_shows_a_state_is_not_in_its_key(override):
    assert key(override) == key()


@pytest.mark.parametrize("override", ["phase2.seed=1", "phase3.optim.steps=9", "phase2.prefix_len=3"])
def test_what_makes_a_state_is_in_its_key(override):
    assert key(override) != key()


def test_method_and_slots_are_in_the_key():
    assert len({key(), key(method="free"), key(slots=5)}) == 3


def test_other_code_is_another_key(monkeypatch, tmp_path):
    """The same settings may give another state after an upgrade or an edit."""
    before = key()
    edited = tmp_path / "cedkv" / "provenance.py"
    edited.parent.mkdir(parents=True)
    edited.write_text("# edited")
    monkeypatch.setattr(provenance, "__file__", str(edited))
    provenance.code_fingerprint.cache_clear()
    assert key() != before
    monkeypatch.undo()
    provenance.code_fingerprint.cache_clear()
    assert key() == before
