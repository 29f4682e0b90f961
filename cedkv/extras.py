"""Packages that only some work needs: imported when it begins, never on start."""

import importlib
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from types import ModuleType

from cedkv.errors import ConfigError

_PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def extra(module: str, name: str) -> ModuleType:
    """A module of the extra `name` of this package.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"{module} is not installed; run: {how_to_install(name)}") from error


def how_to_install(name: str) -> str:
    """The command that installs an extra's packages by their own names: this package is in no registry."""
    return " ".join(["pip install", *(f"'{package}'" for package in packages_of(name))])


def packages_of(name: str) -> list[str]:
    """The packages of an extra with their ranges: by this package's metadata, or in a checkout by its project file."""
    try:
        lines = [line.partition(";") for line in requires("cedkv") or ()]
        return [package.strip() for package, _, marker in lines if f'extra == "{name}"' in marker]
    except PackageNotFoundError:
        project = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]
        return project["optional-dependencies"][name]
