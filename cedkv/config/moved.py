"""Settings that have moved: old paths and values, which files and states from before hold, are read as today's."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from cedkv.config.trees import nested, overlaid, value_at
from cedkv.errors import ConfigError

_OLD, _NEW = "phase2", "run"
_NAMES = ("seed", "model", "runtime")

Path = tuple[str, ...]

# Values that are gone, and what is nearest: `auto` matched whole answers, but of those of one token that token alone.
_VALUES: dict[Path, dict[str, str]] = {("phase3", "loss", "on_tokens"): {"auto": "all"}}


class SettingsMoved(FutureWarning):
    """A setting was given by the path, or with the value, that it had before."""


def path_today(path: Path) -> Path:
    """The path of a setting today, whichever of its paths this is."""
    return (_NEW, *path[1:]) if path[:1] == (_OLD,) and path[1:2] and path[1] in _NAMES else path


def settings_today(tree: Mapping[str, Any], source: str = "settings") -> dict[str, Any]:
    """A tree of settings with each under the path it has today, and with today's values.

    Raises
    ------
    ConfigError
        A setting is given by its old path and by today's.
    """
    for path, gone in _old_values(tree):
        tree = overlaid(tree, nested(path, _VALUES[path][gone]))
    tree = dict(tree)
    old, new = tree.get(_OLD), tree.get(_NEW) or {}
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return tree
    moved = {name: old[name] for name in _NAMES if name in old}
    if not moved:
        return tree
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


def tell_moved(paths: Iterable[Path], tree: Mapping[str, Any], source: str) -> None:
    """Warn, a line each, of the old paths among these and of the values in a tree that are gone."""
    named = sorted({path[1] for path in paths if path_today(path) != path})
    if named:
        today = ", ".join(f"{_OLD}.{name} is {_NEW}.{name}" for name in named)
        warnings.warn(f"{source}: {today} today; the old path still works", SettingsMoved, stacklevel=2)
    for path, gone in _old_values(tree):
        told = f"{source}: {'.'.join(path)}: {gone} is {_VALUES[path][gone]} today; the old value still works"
        warnings.warn(told, SettingsMoved, stacklevel=2)


def _old_values(tree: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """The places of a tree that have a value of before, with it."""
    found = [(path, value_at(tree, path)) for path in _VALUES]
    return [(path, value) for path, value in found if isinstance(value, str) and value in _VALUES[path]]
