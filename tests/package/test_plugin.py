"""A method of another package: installed beside this one, it is there, with nothing changed here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cedkv.methods import METHODS
from tests.package.conftest import ROOT
from tests.package.test_wheel import SETTINGS
from tests.tiny import tiny_path

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "first-tokens"
version = "1.0"

[project.entry-points."cedkv.methods"]
first_tokens = "first_tokens:METHOD"

[tool.setuptools]
py-modules = ["first_tokens"]
"""
MODULE = '''
"""The first tokens of the demonstrations, as they are."""

import torch

from cedkv.events import Done
from cedkv.methods import Extraction, Method
from cedkv.state import KVPrefix


def first_tokens(bench, slots):
    block = bench.demo_kv
    layers = block.keys.shape[0]
    active = torch.ones(layers, slots, dtype=torch.bool)
    keys, values = block.keys[:, :, :slots].clone(), block.values[:, :, :slots].clone()
    prefix = KVPrefix(keys, values, torch.arange(slots), slots, active, block.fingerprint)
    yield Done(Extraction("first_tokens", prefix))


METHOD = Method(first_tokens, "First tokens", (), "floor")
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> str:
    """The folder where pip has installed the other package."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("plugin")
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "first_tokens.py").write_text(MODULE)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", target, source], check=True)
    return str(target)


def test_the_command_line_uses_it(outside, plugin, tmp_path):
    state = tmp_path / "state.safetensors"
    task = ["--task", "present-past", "--model", tiny_path("llama"), "--slots", 3]
    made = outside("cedkv", "extract", *task, "--method", "first_tokens", "--out", state, *SETTINGS, PYTHONPATH=plugin)
    assert made.returncode == 0, made.stderr
    assert "first_tokens" in outside("cedkv", "inspect", state).stdout  # which needs no such package


OFFERED = """
from contextlib import suppress

from cedkv.cli import main
from cedkv.methods import METHODS
from components.theme import view_choices

with suppress(SystemExit):
    main(["extract", "--help"])
print(view_choices(METHODS))
"""


def test_the_command_line_and_the_app_offer_it(plugin):
    assert "first_tokens" not in METHODS  # here, where it is not installed
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([plugin, str(ROOT)])}
    shown = subprocess.run(
        [sys.executable, "-c", OFFERED], cwd=Path(plugin), env=environment, capture_output=True, text=True
    )
    assert "('First tokens', 'first_tokens')" in shown.stdout, shown.stderr
    assert "first_tokens" in shown.stdout.partition("--method")[2].partition("--slots")[0]
