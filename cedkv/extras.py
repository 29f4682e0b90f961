"""Packages that only some work needs: imported when it begins, never on start."""

import importlib
from types import ModuleType

from cedkv.errors import ConfigError


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
        raise ConfigError(f"{module} is not installed; run: pip install 'cedkv[{name}]'") from error
