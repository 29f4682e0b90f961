"""What `cedkv documents` has written, read again from anywhere: how each view answered, by depth and length."""

from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from cedkv.errors import OutputError
from cedkv.files import read_written

_FEW = 10_000


class GridRow(TypedDict):
    """The mean score of one view on questions of a kind, a length in tokens and a depth, 0 to 1."""

    kind: str
    view: str
    tokens: int
    depth: FiniteFloat
    score: FiniteFloat
    count: int


class _Place(TypedDict):
    depth: FiniteFloat | None


class _Written(TypedDict):
    grid: list[_Place]


_GRID, _ROWS = TypeAdapter(_Written), TypeAdapter(list[GridRow])


def read_grid(path: str | Path, name: str = "") -> list[GridRow]:
    """The rows whose questions have a depth, which themes and questions from files have not.

    name : what to call the file in errors, where that is not its path.

    Raises
    ------
    OutputError
        It cannot be read, is no such file, or none of its questions has a depth.
    """
    name = name or str(path)
    rows = read_written(path, name, "documents.json", _placed)
    if not rows or len(rows) > _FEW:
        raise OutputError(f"{name!r} holds no needles at a depth, or over {_FEW} figures; judge made documents")
    return rows


def _placed(tree: Any) -> list[GridRow]:
    _GRID.validate_python(tree, strict=True)
    return _ROWS.validate_python([row for row in tree["grid"] if row["depth"] is not None], strict=True)
