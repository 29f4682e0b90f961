"""The cache of extractions on the command line: the same demonstrations are worked on once."""

from dataclasses import replace

import pytest

from cedkv.state import KVPrefix
from tests.cli.conftest import DEMOS, FEW_QUERIES


@pytest.fixture
def extractions(monkeypatch) -> list[str]:
    """The methods that really ran."""
    import cedkv.methods

    ran: list[str] = []
    for name, method in list(cedkv.methods.METHODS.items()):

        def counted(bench, slots, name=name, method=method):
            ran.append(name)
            yield from method.run(bench, slots)

        monkeypatch.setitem(cedkv.methods.METHODS, name, replace(method, run=counted))
    return ran


@pytest.fixture
def extract(cli, model, demos_file, tmp_path):
    def run(*options: str, demos: str = demos_file, method: str = "select") -> KVPrefix:
        out = tmp_path / "state.safetensors"
        source = ["--demos", demos, "--model", model, "--method", method, *FEW_QUERIES]
        outcome = cli("extract", *source, "--out", out, *options)
        assert outcome.code == 0, outcome.err
        return KVPrefix.load(out)

    return run


def test_the_same_demonstrations_are_extracted_once(extract, extractions, tmp_path):
    first = extract()
    copy = tmp_path / "renamed.txt"
    copy.write_text(DEMOS, encoding="utf-8")
    again = extract("--set", "phase2.thresholds.on_gain_min=0.5", demos=str(copy))
    assert extractions == ["select"]
    assert first.keys.equal(again.keys) and first.values.equal(again.values)
    assert (first.meta["task"], again.meta["task"]) == ("past", "renamed")
    assert again.meta["settings"]["phase2"]["thresholds"]["on_gain_min"] == 0.5
    assert first.meta["metrics"] == again.meta["metrics"]


@pytest.mark.parametrize(
    "other",
    [["--slots", "5"], ["--set", "run.seed=1"], ["--set", "phase2.select.span_len=2"], ["--method", "few_shot"]],
    ids=" ".join,
)
def test_anything_that_makes_another_state_is_extracted_anew(extract, extractions, other):
    extract()
    extract(*other)
    assert len(extractions) == 2


def test_no_cache_neither_reads_nor_writes(extract, extractions, own_cache):
    extract("--no-cache")
    assert not own_cache.exists()
    extract()
    extract("--no-cache")
    assert len(extractions) == 3


def test_ls_lists_and_clear_removes(cli, extract, own_cache):
    assert cli("cache", "ls").out.startswith("0 states")
    extract()
    extract("--slots", "5")
    listed = cli("cache", "ls").out.splitlines()
    assert len(listed) == 5
    assert '"select"' in listed[1] and '"past"' in listed[1]
    assert listed[3].startswith("2 states")
    assert listed[-1] == str(own_cache)
    next(own_cache.iterdir()).write_bytes(b"damaged")
    assert "damaged" in cli("cache", "ls").out
    assert cli("cache", "clear").out.startswith("2 states removed")
    assert cli("cache", "ls").out.startswith("0 states")


def test_an_unknown_action_is_an_error(cli):
    assert "choose from" in cli("cache", "shred").error


def test_extract_stores_the_precision_asked_for(extract):
    assert extract("--precision", "bf16").keys.dtype.itemsize == 2
