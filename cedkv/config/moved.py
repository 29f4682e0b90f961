"""Settings that have moved: their old paths, which files and states from before hold, are read as those of today."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from cedkv.errors import ConfigError

_OLD, _NEW = "phase2", "run"
_NAMES = ("seed", "model", "runtime")

Path = tuple[str, ...]


class SettingsMoved(FutureWarning):
    """A setting was given by the path it had before."""


def path_today(path: Path) -> Path:
    """The path of a setting today, whichever of its paths this is."""
    return (_NEW, *path[1:]) if path[:1] == (_OLD,) and path[1:2] and path[1] in _NAMES else path


def settings_today(tree: Mapping[str, Any], source: str = "settings") -> dict[str, Any]:
    """A tree of settings with each under the path it has today.

    Raises
    ------
    ConfigError
        A setting is given by its old path and by today's.
    """
    old, new = tree.get(_OLD), tree.get(_NEW) or {}
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return dict(tree)
    moved = {name: old[name] for name in _NAMES if name in old}
    if not moved:
        return dict(tree)
    for name in moved.keys() & new.keys():
        raise ConfigError(f"{source}: {_OLD}.{name} is {_NEW}.{name} today, and both are given; leave the first out")
    rest = {name: value for name, value in old.items() if name not in _NAMES}
    return {**tree, _NEW: {**new, **moved}, _OLD: rest}


def settings_then(tree: Mapping[str, Any], source: str = "settings") -> dict[str, Any]:
    """All the settings that were recorded of a run that is over, as they would be given today.

    What was no setting yet gets the value that everything worked as: slots were mixtures of tokens, and of an OFF text
    only the last position was read.
    """
    today = settings_today(tree, source)
    phase3 = today.get("phase3")
    if not isinstance(phase3, Mapping) or "mixture" not in phase3 or "start" in phase3:
        return today
    optim = phase3.get("optim")
    optim = {"off_reads": 1, **optim} if isinstance(optim, Mapping) else optim
    return {**today, "phase3": {**phase3, "start": "tokens", "optim": optim}}


def tell_moved(paths: Iterable[Path], source: str) -> None:
    """Warn, in one line, of the old paths among these."""
    named = sorted({path[1] for path in paths if path_today(path) != path})
    if named:
        today = ", ".join(f"{_OLD}.{name} is {_NEW}.{name}" for name in named)
        warnings.warn(f"{source}: {today} today; the old path still works", SettingsMoved, stacklevel=2)
