"""Running the command line in this process, on a tiny model."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from cedkv.cli import main
from tests.tiny import PAIRS, tiny_path

DEMOS = "".join(f"{source} -> {target}\n" for source, target in PAIRS)
# The model makes up the queries of a relation that has no others, which takes most of a small extraction.
FEW_QUERIES = ["--set", "episode.on_train=4", "--set", "phase2.eval.on_samples=4"]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of a run that must have ended with one line of error on stderr and exit code 2."""
        lines = [line for line in self.err.splitlines() if line.startswith("cedkv: ")]
        assert self.code == 2, self.err
        assert len(lines) == 1 and self.err.endswith(f"{lines[0]}\n"), self.err
        assert "Traceback" not in self.err
        return lines[0].removeprefix("cedkv: error: ")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory) -> Path:
    """A cache of extractions for each test, and never the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("cedkv.methods.cached.cache_root", lambda: folder)
    return folder / "states"


@pytest.fixture
def cli(capsys) -> Callable[..., Outcome]:
    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def model() -> str:
    return str(tiny_path("llama"))


@pytest.fixture(scope="session")
def demos_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("demos") / "past.txt"
    path.write_text(DEMOS, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def copied_state(model, demos_file, tmp_path_factory) -> Path:
    """A state made of the demonstrations by copying, once for all tests."""
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    source = ["--demos", demos_file, "--model", model, "--method", "select", "--no-cache", *FEW_QUERIES]
    assert main(["extract", *source, "--out", str(path)]) == 0
    return path


@pytest.fixture
def state(copied_state, tmp_path) -> str:
    """The copied state, a file to change."""
    return str(shutil.copy(copied_state, tmp_path))
