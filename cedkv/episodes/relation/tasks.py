"""Relation tasks: the shipped ones (`tasks/index.yaml` and its JSON files) and a user's own file."""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import yaml

from cedkv.errors import DemoError
from cedkv.files import parse_json

TASKS_DIR = Path(__file__).parent / "tasks"
MAX_FILE_BYTES = 5_000_000


@dataclass(frozen=True)
class Task:
    """A relation shown by examples: each pair is an input and the output that the relation gives it."""

    name: str
    kind: str
    about: str
    pairs: tuple[tuple[str, str], ...]


def task_names() -> list[str]:
    """Names of the shipped tasks, in the order of the registry (kind by kind)."""
    return list(_index())


def load_task(name: str) -> Task:
    """A shipped task.

    Raises
    ------
    DemoError
        No shipped task has this name.
    """
    index = _index()
    if name not in index:
        nearest = get_close_matches(name, index, n=1, cutoff=0.0)[0]
        raise DemoError(
            f"no shipped task is called {name!r}; did you mean {nearest!r}? "
            f"Choose one of the {len(index)} names in {TASKS_DIR / 'index.yaml'} or pass a task file"
        )
    pairs = load_task_file(TASKS_DIR / f"{name}.json").pairs
    return Task(name, index[name]["kind"], index[name]["about"], pairs)


def load_task_file(path: str | Path) -> Task:
    """A task from a JSON file in the format of function-vectors: `[{"input": "...", "output": "..."}, ...]`.

    Surrounding whitespace is removed. A value may be a list of strings: its first element counts. Public
    data repeats inputs (antonyms have several answers): of equal inputs the first pair is kept.

    Raises
    ------
    DemoError
        The file is missing, over 5 MB, not UTF-8 JSON, not such a list, or has fewer than 2 different inputs.

    References
    ----------
    Todd et al. 2024, Function Vectors in Large Language Models, https://functions.baulab.info
    """
    path = Path(path)
    items = _read_json(path)
    if not isinstance(items, list):
        raise DemoError(
            f"{path}: the top level is a {type(items).__name__}, not a list; "
            f'write [{{"input": "...", "output": "..."}}, ...]'
        )
    pairs: dict[str, str] = {}
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            raise DemoError(f'{path}: item {i} is {item!r:.60}; write {{"input": "...", "output": "..."}}')
        x, y = (_text(path, i, item, key) for key in ("input", "output"))
        pairs.setdefault(x, y)
    if len(pairs) < 2:
        raise DemoError(f"{path}: {len(pairs)} different inputs; a task needs at least 2 pairs, add more")
    return Task(path.stem, "file", f"Pairs read from {path.name}.", tuple(pairs.items()))


@cache
def _index() -> dict[str, dict[str, str]]:
    return yaml.safe_load((TASKS_DIR / "index.yaml").read_text(encoding="utf-8"))


def _read_json(path: Path) -> Any:
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise DemoError(f"{path}: {size / 1e6:.1f} MB; a task file has at most 5 MB, keep fewer pairs")
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise DemoError(f"{path}: cannot read the task file ({e.strerror}); check the path") from e
    except UnicodeDecodeError as e:
        raise DemoError(f"{path}: byte {e.start} is not UTF-8; save the file as UTF-8") from e
    except JSONDecodeError as e:
        raise DemoError(f"{path}: not JSON, line {e.lineno} column {e.colno}: {e.msg}; mend that line") from e
    except ValueError as e:
        raise DemoError(f"{path}: {e}") from e
    except RecursionError as e:
        raise DemoError(f"{path}: nested too deeply for a task file; write a flat list of pairs") from e


def _text(path: Path, i: int, item: dict[str, Any], key: str) -> str:
    value = item.get(key)
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str) or not value.strip():
        raise DemoError(f"{path}: item {i} has {key} {item.get(key)!r:.60}; it must be a non-empty string")
    return value.strip()
