"""The key of a cached extraction: whatever makes a state is in it, what only judges or shows it is not."""

from dataclasses import replace

import pytest
import torch

from cedkv import provenance
from cedkv.config import load_config
from cedkv.events import Done, drain
from cedkv.lm import demo_kv_bytes, read_demo_kv
from cedkv.methods import METHODS
from cedkv.methods.cached import extraction_key, iter_cached_extract
from cedkv.state.cache import StateCache
from tests.optim.trainings import SMALL, bench_with
from tests.tiny import ARCHITECTURES, text_tokens, tiny_lm


def key(*overrides: str, method: str = "ced", slots: int = 4) -> str:
    bench = bench_with()
    return extraction_key(bench.lm, bench.episode, method, slots, load_config(None, [*SMALL, *overrides]))


@pytest.mark.parametrize(
    "override",
    [
        "phase2.eval.on_samples=4",
        "phase2.thresholds.on_gain_min=0.9",
        "phase3.thresholds.acc_vs_teacher_min=0.8",
        "phase2.reporting.topk_tokens=2",
        "run.model.id=./the/same/model",
    ],
)
def test_what_only_judges_or_shows_a_state_is_not_in_its_key(override):
    assert key(override) == key()


@pytest.mark.parametrize(
    "override",
    ["run.seed=1", "phase3.optim.steps=9", "phase2.prefix_len=3", "phase3.thresholds.off_delta_p99_stress_max=1"],
)
def test_what_makes_a_state_is_in_its_key(override):
    assert key(override) != key()


def test_what_is_asked_is_in_the_key_where_training_keeps_foreign_templates_off_it():
    keys = {}
    for kinds in ("[made]", "[made, foreign]"):
        bench = bench_with(f"phase3.off_data.pool_kinds={kinds}")
        fewer = replace(bench.episode, on_eval=bench.episode.on_eval[:1])
        assert fewer.sha256 == bench.episode.sha256
        keys[kinds] = {extraction_key(bench.lm, those, "ced", 4, bench.config) for those in (bench.episode, fewer)}
    assert (len(keys["[made]"]), len(keys["[made, foreign]"])) == (1, 2)


def test_the_precision_of_training_is_in_the_key_as_this_machine_has_it(monkeypatch):
    keys = set()
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        keys.add(key("phase3.optim.train_dtype=auto"))
    assert len(keys) == 2


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


def test_another_version_of_another_packages_method_is_another_key(monkeypatch):
    before = key(method="select")
    monkeypatch.setitem(METHODS._packages, "select", "others 1.0")
    first = key(method="select")
    monkeypatch.setitem(METHODS._packages, "select", "others 1.1")
    assert len({before, first, key(method="select")}) == 3


def test_a_cache_that_cannot_be_written_costs_a_warning_and_not_the_state(tmp_path):
    (tmp_path / "states").write_text("a file where the folder should be")
    bench = bench_with()
    *events, done = iter_cached_extract(
        StateCache(tmp_path / "states"), bench.lm, bench.episode, "select", 4, bench.config
    )
    assert isinstance(done, Done) and done.result.prefix.slots == 4
    assert "not kept for the next time" in events[-1].message


def test_a_state_from_the_cache_is_the_same_and_costs_no_forward(tmp_path):
    bench, states = bench_with(), StateCache(tmp_path)
    wanted = (states, bench.lm, bench.episode, "select", 4, bench.config)
    made = drain(iter_cached_extract(*wanted)).prefix
    forwards = []
    hook = bench.lm.model.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    try:
        again = drain(iter_cached_extract(*wanted)).prefix
    finally:
        hook.remove()
    assert forwards == []
    assert again.meta == made.meta
    assert again.meta["teacher_bytes"] == bench.teacher.nbytes
    assert torch.equal(again.values, made.values)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bytes_of_the_demonstrations_are_known_without_reading_them(architecture, dtype):
    lm = tiny_lm(architecture).in_dtype(dtype)
    tokens = text_tokens(lm)
    assert demo_kv_bytes(lm, tokens) == read_demo_kv(lm, tokens).as_prefix().nbytes
