"""What is said where a package of an extra is missing: a command that installs it, in a checkout and elsewhere."""

import ast
import shlex
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cedkv.errors import ConfigError
from cedkv.extras import extra, how_to_install, packages_of

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
METADATA = """Metadata-Version: 2.4
Name: cedkv
Version: 0.2.0
Requires-Dist: torch<3,>=2.10
Provides-Extra: train
Requires-Dist: peft<1,>=0.20; extra == "train"
Provides-Extra: rag
Requires-Dist: faiss-cpu<2,>=1.12; extra == "rag"
"""


def asked_for() -> set[tuple[str, str]]:
    """Module and extra of every call of `extra` in the engine."""
    calls = [
        node
        for file in (ROOT / "cedkv").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "extra"
    ]
    return {(module.value, name.value) for call in calls for module, name in [call.args]}


@pytest.mark.parametrize(("module", "name"), sorted(asked_for()))
def test_the_extra_that_is_named_has_the_module(module, name):
    packages = [Requirement(package).name for package in EXTRAS[name]]
    if owners := packages_distributions().get(module.partition(".")[0]):
        assert set(owners) & set(packages)
    pip, install, *named = shlex.split(how_to_install(name))
    assert (pip, install) == ("pip", "install")
    assert [Requirement(package).name for package in named] == packages


def test_what_is_missing_is_named_with_its_own_packages():
    with pytest.raises(ConfigError, match=r"^no_such_module is not installed; run: pip install 'faiss-cpu>=1.12,<2'$"):
        extra("no_such_module", "rag")


def test_an_installed_package_knows_its_extras_without_the_project_file(tmp_path, monkeypatch):
    (tmp_path / "cedkv-0.2.0.dist-info").mkdir()
    (tmp_path / "cedkv-0.2.0.dist-info/METADATA").write_text(METADATA)
    monkeypatch.syspath_prepend(tmp_path)
    assert packages_of("train") == ["peft<1,>=0.20"]
    assert how_to_install("rag") == "pip install 'faiss-cpu<2,>=1.12'"


def test_the_app_has_what_reads_gists():
    assert EXTRAS["train"] == [package for package in EXTRAS["app"] if package.startswith("peft")]
