"""What a command imports: help and slips of the pen need neither torch nor transformers, which take seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cedkv.cli import COMMANDS
from cedkv.version import __version__

ROOT = Path(__file__).parents[2]
# A process in which these cannot be imported.
WITHOUT = "import sys; sys.modules.update(dict.fromkeys({barred!r}));"


def run(*arguments: str, barred: tuple[str, ...] = ("torch", "transformers")) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"{WITHOUT.format(barred=barred)} from cedkv.__main__ import main; sys.exit(main())"]
        + list(arguments),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_help_names_every_command():
    shown = run("--help")
    assert shown.returncode == 0, shown.stderr
    words = " ".join(shown.stdout.split())
    for name, about in COMMANDS.items():
        assert f"{name} {about}" in words


def test_the_version_is_said():
    assert (run("--version").stdout, run("--version").returncode) == (f"cedkv {__version__}\n", 0)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "COMMAND"),
        (["gat"], "invalid choice: 'gat'"),
        (["inspect"], "STATE"),
        (["inspect", "none.safetensors"], "'none.safetensors' cannot be read"),
        (["inspect", __file__], "is no safetensors file"),
        (["documents", "--tokens", "few"], "'few'"),
        (["train", "everything"], "invalid choice: 'everything'"),
        (["app", "--port", "many"], "'many'"),
        (["cache", "list"], "invalid choice: 'list'"),
        (["pairs", "export", "folder"], "add --out pairs.safetensors"),
        (["bench", "--out", "."], "output '.' is a folder"),
        (["diagnose", "--demos"], "expected one argument"),
    ],
)
def test_what_is_wrong_is_said_without_torch(arguments, named):
    refused = run(*arguments)
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.startswith("cedkv: error: ") and refused.stderr.count("\n") == 1
    assert named in refused.stderr


@pytest.mark.parametrize("name", ["inspect", "documents", "train", "app", "cache", "pairs", "bench", "diagnose"])
def test_help_of_a_command_is_shown_without_torch(name):
    assert run(name, "--help").returncode == 0


def test_a_state_is_shown_without_transformers(state):
    shown = run("inspect", state, barred=("transformers",))
    assert shown.returncode == 0, shown.stderr
    assert "select" in shown.stdout
