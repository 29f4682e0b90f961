"""Reading settings: YAML, a named mixture on top, overrides; and what is wrong with them, in one line."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from cedkv.config.base import Settings
from cedkv.config.moved import path_today, settings_then, settings_today, tell_moved
from cedkv.config.schema import Config
from cedkv.config.sweep import SweepConfig
from cedkv.config.trees import leaves, nested, overlaid
from cedkv.errors import ConfigError
from cedkv.files import check_writable_again

Schema = TypeVar("Schema", bound=Settings)
# The file and line of every key, by its path.
Places = dict[tuple, str]

# Besides its own errors, PyYAML lets those of impossible dates and of deep nesting through.
_YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)
# The repository's `configs`; a wheel carries a copy here.
PRESETS = Path(__file__).parent / "presets"
MIXTURES = PRESETS / "mixtures"
# By this key a file says which of them it stands on; no setting of its own.
_MIXTURE = "mixture"


def load_config(
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    mixture: str | Path | None = None,
    recorded: bool = False,
) -> Config:
    """Read a YAML file, lay a mixture over it and apply `a.b=c` overrides; what is not given keeps its default.

    Parameters
    ----------
    path : a name from `preset_names()` or the path of a YAML file, which may stand on a mixture that ships: by a line
        `mixture: NAME` it takes from there what it does not set itself.
    mixture : a name from `mixture_names()` or the path of a YAML file with only the settings it changes. It takes the
        place of the mixture that the file stands on.
    recorded : the file tells of a run that is over. Paths that settings had before are then no matter for a warning.

    Raises
    ------
    ConfigError
        A file cannot be read, a key is unknown (the nearest valid one is named) or a value is out of range.
    """
    tree: dict[str, Any] = {}
    places: Places = {}
    source = "settings"
    if path is not None:
        file = _preset(path)
        source = str(file)
        tree, places = _parse(_read(file), source, recorded)
    if mixture is None:
        tree = _on_mixture(tree, places, source)
    else:
        file = MIXTURES / f"{mixture}.yaml" if mixture in mixture_names() else mixture
        overlay, above = _parse(_read(file), str(file))
        tree, places = overlaid(_own(tree), overlay), places | above
    return _validated(tree, places, source, overrides, Config)


def load_settings(schema: type[Schema], path: str | Path | None = None, overrides: Sequence[str] = ()) -> Schema:
    """Like `load_config`, for the settings of a training, which have a schema of their own; raises what it raises."""
    source = "settings" if path is None else str(path)
    tree, places = ({}, {}) if path is None else _parse(_read(path), source)
    return _validated(tree, places, source, overrides, schema)


def load_sweep(path: str | Path) -> tuple[SweepConfig, list[Config]]:
    """The settings of a sweep, and those of each of its points; a mistake is told by its line in the file it is in.

    Raises
    ------
    ConfigError
        As `load_config`.
    """
    source = str(path)
    tree, places = _parse(_read(path), source)
    sweep = _validated(tree, places, source, (), SweepConfig)
    load_config(sweep.base)
    base = {} if sweep.base is None else _on_mixture(*_parse(_read(_preset(sweep.base)), sweep.base), sweep.base)
    base = overlaid(base, settings_today(sweep.settings, source))
    shared = {place[1:]: where for place, where in places.items() if place[0] == "settings"}
    configs = []
    for number, point in enumerate(sweep.points):
        above = ("list", str(number)) if sweep.list else ("grid",)
        own = {tuple(name.split(".")): places[(*above, name)] for name in point if (*above, name) in places}
        tree = base
        for name, value in point.items():
            tree = overlaid(tree, nested(name.split("."), value))
        configs.append(_validated(tree, shared | own, source, (), Config))
    return sweep, configs


def parse_config(text: str, source: str, overrides: Sequence[str] = (), recorded: bool = False) -> Config:
    """Like `load_config`, from YAML text; `source` names it in errors."""
    tree, places = _parse(text, source, recorded)
    return _validated(_on_mixture(tree, places, source), places, source, overrides, Config)


def preset_names() -> list[str]:
    """The named settings that ship in `configs`."""
    return sorted(file.stem for file in PRESETS.glob("*.yaml"))


def mixture_names() -> list[str]:
    """The named mixture settings that ship in `configs/mixtures`."""
    return sorted(file.stem for file in MIXTURES.glob("*.yaml"))


def _preset(path: str | Path) -> str | Path:
    """The file of a name that ships, or the path itself."""
    return PRESETS / f"{path}.yaml" if path in preset_names() else path


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {str(path)!r} cannot be read: {error}") from error


def _parse(text: str, source: str, recorded: bool = False) -> tuple[dict, Places]:
    """The tree of settings and the file and line of every key."""
    try:
        tree = yaml.safe_load(text) or {}
        keys = list(_key_lines(yaml.compose(text)))
    except _YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = str(getattr(error, "problem", error)).splitlines()[0]
        raise ConfigError(f"{source}{where}: not valid YAML: {problem}") from error
    lines: dict[tuple, int] = {}
    for path, line in keys:
        if path in lines:  # YAML itself would keep the last and say nothing
            first = f"it is on line {lines[path]} already; put both into one"
            raise ConfigError(f"{source} line {line}: {'.'.join(path)!r} is there twice; {first}")
        lines[path] = line
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: the top level must be a mapping of settings, not {type(tree).__name__}")
    if not recorded:
        tell_moved(lines, tree, source)
    today = settings_then if recorded else settings_today
    return today(tree, source), {path_today(path): f"{source} line {line}" for path, line in lines.items()}


def _on_mixture(tree: dict, places: Places, source: str) -> dict:
    """The settings of a file over those of the mixture that it names, if it names one."""
    if _MIXTURE not in tree:
        return tree
    name = tree[_MIXTURE]
    if name not in mixture_names():  # a name and no path: whoever types settings in an app reads none of its files
        where = places.get((_MIXTURE,), source)
        raise ConfigError(f"{where}: mixture = {_short(name)} does not ship; name one of {', '.join(mixture_names())}")
    file = MIXTURES / f"{name}.yaml"
    return overlaid(_parse(_read(file), str(file))[0], _own(tree))


def _own(tree: dict) -> dict:
    """The settings of a file without the mixture that it stands on."""
    return {name: block for name, block in tree.items() if name != _MIXTURE}


def _validated(tree: dict, places: Places, source: str, overrides: Sequence[str], schema: type[Schema]) -> Schema:
    for override in overrides:
        _apply(tree, override)
    tell_moved((_path(override) for override in overrides), tree, "--set")
    tree = settings_today(tree, "--set")
    _check_leaves(tree, places, source)
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, source, places, schema)) from error


def _check_leaves(tree: dict, places: Places, source: str) -> None:
    try:
        for name, value in leaves(tree):
            path = tuple(name.split("."))
            where = f"{places.get(path, source)}: {name}"
            check_writable_again({name: value})
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: a block of settings holds itself; write it out") from error


def dump_config(config: Settings) -> str:
    """The fully resolved settings as YAML; loading it gives an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def setting(path: str) -> FieldInfo:
    """The schema's field for a dotted path such as `phase2.select.mode`: description, default, bounds."""
    block: Any = Config
    *parents, name = path.split(".")
    for parent in parents:
        block = block.model_fields[parent].annotation
    return block.model_fields[name]


def choices(path: str) -> list[str]:
    """The values a setting can take, for a setting that is one of a few words."""
    return list(get_args(setting(path).annotation))


def _path(override: str) -> tuple[str, ...]:
    return tuple(override.partition("=")[0].strip().split("."))


def _apply(tree: dict, override: str) -> None:
    _, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override!r} has no '='; write a.b=value")
    *parents, name = path_today(_path(override))
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a value, not a block of settings")
    try:
        tree[name] = yaml.safe_load(value)
    except _YAML_ERRORS as error:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML") from error


def _key_lines(node: yaml.Node | None, path: tuple = ()) -> Iterator[tuple[tuple, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from _key_lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _key_lines(value, (*path, str(number)))


def _explain(error: ValidationError, source: str, places: Places, schema: Any) -> str:
    """One line for the first mistake: where it is, what it is, what would be right."""
    first = error.errors()[0]
    path = tuple(part for part in first["loc"] if isinstance(part, str) and _is_key(part, first))
    where = places.get(path, source)
    name = ".".join(path)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{where}: {name!r} is not a setting; {_nearest(path, schema)}{more}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        message = "a block of settings belongs here, indented below its name"
    return f"{where}: {name} = {_short(first['input'])}: {message[0].lower()}{message[1:]}{more}"


def _is_key(part: str, error: Any) -> bool:
    # For a union pydantic appends the tried type's name to the location; settings never contain these characters.
    return not any(character in part for character in "[]()") and part not in ("str", "int")


def _nearest(path: tuple, block: Any) -> str:
    for parent in path[:-1]:
        block = block.model_fields[parent].annotation
    known = list(block.model_fields)
    near = difflib.get_close_matches(path[-1], known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
