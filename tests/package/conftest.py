"""The project as its users have it: built as a wheel and installed outside the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy, so that nothing left in the repository gets into it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("cedkv", "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", out, source], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    """An empty virtual environment with the wheel in it; the packages it needs are lent by a path file."""
    home = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", home / "bin/python", "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", wheel], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib"))
    return home


@pytest.fixture
def outside(installed, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program of the installed environment in an empty folder."""

    def run(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        lean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        own = {**lean, "CEDKV_CACHE": str(tmp_path / "cache"), **environment}
        command = [str(installed / "bin" / program), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True)

    return run
