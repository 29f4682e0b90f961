"""Methods of other packages: found by an entry point, used like any other, refused with one clear line."""

import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

import cedkv.cli.extract
import cedkv.gate.kinds.saved
import cedkv.methods
import cedkv.methods.cached
import cedkv.methods.registry
from cedkv.cli import main
from cedkv.config import load_config
from cedkv.errors import ConfigError
from cedkv.gate import run_gate
from cedkv.methods import METHODS, MethodWarning, extract
from cedkv.methods.registry import GROUP, Methods
from cedkv.state import KVPrefix
from tests.gate.reports import SMALL
from tests.optim.trainings import bench_with
from tests.tiny import PAIRS, tiny_lm, tiny_path

LAST_TOKENS = '''
"""The last tokens of the demonstrations: a method of somebody else's."""

from cedkv.events import Done, Progress
from cedkv.methods.base import Extraction, Method
from cedkv.methods.select import token_prefix


def run(bench, slots):
    yield Progress("taking the last tokens", 0, 1)
    tokens = list(range(len(bench.episode.tokens)))[-slots:]
    yield Done(Extraction("last_tokens", token_prefix(bench, tokens)))


METHOD = Method(run, "last tokens", ("phase2.injection",), "rival")
'''


@pytest.fixture
def offered(monkeypatch, tmp_path):
    """Offers modules with methods as an installed package would: `offered({name: source})`."""
    shipped = {name: METHODS[name] for name in ("select", "few_shot", "ced", "free")}

    def offer(sources: dict[str, str]) -> Methods:
        points = []
        for name, source in sources.items():
            module = f"cedkv_test_{name}_{tmp_path.name}".replace("-", "_")
            (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
            points.append(EntryPoint(name, f"{module}:METHOD", GROUP))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(
            cedkv.methods.registry, "entry_points", lambda group: EntryPoints(points).select(group=group)
        )
        fresh = Methods(shipped)
        for holder in (cedkv.methods, cedkv.methods.cached, cedkv.cli.extract, cedkv.gate.kinds.saved):
            monkeypatch.setattr(holder, "METHODS", fresh)
        return fresh

    return offer


def test_it_is_loaded_only_when_it_is_asked_for(offered):
    methods = offered({"last_tokens": LAST_TOKENS})
    assert methods["ced"].label == "CED mixture"
    assert not [name for name in sys.modules if name.startswith("cedkv_test_last_tokens")]
    assert methods["last_tokens"].label == "last tokens"
    assert list(methods) == ["select", "few_shot", "ced", "free", "last_tokens"]


def test_it_is_extracted_judged_as_a_rival_and_a_choice_of_the_command(offered, tmp_path, capsys):
    offered({"last_tokens": LAST_TOKENS})
    bench = bench_with()
    assert extract(bench.lm, bench.episode, "last_tokens", 5, bench.config).prefix.slots == 5

    report = run_gate(load_config(None, SMALL), lm=tiny_lm("llama"), out=tmp_path / "runs").data
    assert {"select", "few_shot", "last_tokens"} <= report["on"].keys()
    assert report["off"]["last_tokens"]["stress"]["count"] > 0

    demos = tmp_path / "demos.txt"
    demos.write_text("\n".join(f"{x} -> {y}" for x, y in PAIRS), encoding="utf-8")
    out = tmp_path / "state.safetensors"
    code = main(
        ["extract", "--demos", str(demos), "--model", str(tiny_path("llama")), "--method", "last_tokens"]
        + ["--slots", "4", "--no-cache", "--out", str(out), *(flag for o in SMALL for flag in ("--set", o))]
    )
    assert code == 0, capsys.readouterr().err
    assert KVPrefix.load(out).meta["method"] == "last_tokens"


def test_the_page_reads_its_label(offered):
    from components.theme import view_name

    offered({"last_tokens": LAST_TOKENS})
    assert [view_name(view) for view in ("last_tokens", "ced", "base")] == ["last tokens", "CED mixture", "base"]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            "import nothing_of_this_name",
            "cannot be loaded (ModuleNotFoundError: No module named 'nothing_of_this_name')",
        ),
        ("METHOD = 3", "is a int and no cedkv.methods.Method"),
        ("x = 1", "cannot be loaded (AttributeError"),
    ],
)
def test_a_broken_one_is_warned_of_once_and_an_error_by_name(offered, source, why):
    methods = offered({"broken": source})
    with pytest.warns(MethodWarning) as warned:
        assert list(methods) == ["select", "few_shot", "ced", "free"]
        assert list(methods) == ["select", "few_shot", "ced", "free"]
    (message,) = [str(one.message) for one in warned]
    assert message.startswith("method 'broken' of 'cedkv_test_broken")
    assert why in message
    bench = bench_with()
    with pytest.raises(ConfigError, match="method 'broken' of"):
        extract(bench.lm, bench.episode, "broken", 4, bench.config)


def test_one_with_the_name_of_a_shipped_one_is_refused(offered):
    methods = offered({"ced": LAST_TOKENS})
    with pytest.warns(MethodWarning, match="method 'ced' of .* has the name of this package's own"):
        assert list(methods) == ["select", "few_shot", "ced", "free"]
    assert methods["ced"].label == "CED mixture"
