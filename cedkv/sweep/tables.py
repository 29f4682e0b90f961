"""A sweep's rows as means over tasks and seeds, beside the teacher's, and which of them nothing beats."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ConfigDict, FiniteFloat, TypeAdapter, with_config
from typing_extensions import TypedDict

from cedkv.errors import OutputError
from cedkv.files import read_written
from cedkv.sweep.judging import FIGURES, REFERENCES

# Of every figure that is printed.
_DIGITS = 4
_FEW = 25_000


@with_config(ConfigDict(extra="forbid"))
class Row(TypedDict):
    """What one cell measured, or `error`, why it could not.

    settings : the sweep's own, by dotted path. beside : names the references that are its yardsticks.
    figures : `FIGURES`, empty where there is an error. run : the name of its folder in `runs/`.
    seconds : what the prefix took. worker : the machine and process.
    """

    task: str
    seed: int
    method: str
    slots: int | None
    settings: dict[str, Any]
    beside: str
    model: str
    figures: dict[str, FiniteFloat]
    seconds: FiniteFloat | None
    run: str | None
    worker: str | None
    error: str | None


class Point(TypedDict):
    """Means of the rows that share method and settings.

    share : their first-token accuracy, as a share of the teacher's on the same tasks and seeds; None where that is 0.
    episodes, of : how many tasks and seeds were judged, and how many there are.
    front : no other method's point that was judged on all of them has both as high a share and as low a p99.
    runs : folders in `runs/`.
    """

    method: str
    slots: int | None
    settings: dict[str, Any]
    share: float | None
    accuracy: float
    whole_answer: float
    answer_logprob: float
    kl_to_teacher: float
    off_p99: float
    off_mean: float
    episodes: int
    of: int
    front: bool
    runs: list[str]


class Written(TypedDict):
    """What of `sweep.json` is read again."""

    rows: list[Row]


def points(rows: Sequence[Row]) -> list[Point]:
    """The means, references first, in the order of the rows."""
    teachers = {_place(row): row["figures"]["accuracy"] for row in rows if row["method"] == "teacher" and _ok(row)}
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(repr((row["method"], row["slots"], row["settings"])), []).append(row)
    found = [_point(group, teachers) for group in groups.values() if any(map(_ok, group))]
    for point in found:
        point["front"] = _rival(point) and not any(_beats(other, point) for other in found if _rival(other))
    return sorted(found, key=lambda point: point["method"] not in REFERENCES)


def _point(group: Sequence[Row], teachers: Mapping[tuple, float]) -> Point:
    rows = [row for row in group if _ok(row)]
    means = {name: sum(row["figures"][name] for row in rows) / len(rows) for name in FIGURES}
    beside = [row for row in rows if _place(row) in teachers]
    theirs = sum(teachers[_place(row)] for row in beside)
    found = {
        "method": rows[0]["method"],
        "slots": rows[0]["slots"],
        "settings": rows[0]["settings"],
        "share": sum(row["figures"]["accuracy"] for row in beside) / theirs if theirs else None,
        **means,
        "episodes": len(beside),
        "of": len(group),
        "front": False,
        "runs": [row["run"] for row in rows if row["run"]],
    }
    return cast(Point, found)


def _ok(row: Row) -> bool:
    return not row["error"]


def _place(row: Row) -> tuple[str, int, str]:
    return row["task"], row["seed"], row["beside"]


def _rival(point: Point) -> bool:
    """Whether it is a method's, and its means can be held against others'."""
    return point["method"] not in REFERENCES and point["share"] is not None and point["episodes"] == point["of"]


def _beats(one: Point, other: Point) -> bool:
    """Pareto dominance: at least as good in both, better in one."""
    more, less = one["share"], other["share"]
    assert more is not None and less is not None, "only rivals are compared"
    no_worse = more >= less and one["off_p99"] <= other["off_p99"]
    return no_worse and (more > less or one["off_p99"] < other["off_p99"])


def as_csv(rows: Sequence[Row]) -> str:
    """A line per cell; figures to four decimals."""
    paths = list(dict.fromkeys(path for row in rows for path in row["settings"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["task", "seed", "method", "slots", *paths, *FIGURES, "seconds", "model", "run", "error"])
    for row in rows:
        settings = [row["settings"].get(path) for path in paths]
        figures = [printed(row["figures"].get(name)) for name in FIGURES]
        named = [row["task"], row["seed"], row["method"], row["slots"]]
        writer.writerow([*named, *settings, *figures, printed(row["seconds"]), row["model"], row["run"], row["error"]])
    return text.getvalue()


def printed(value: float | None) -> str:
    return "" if value is None else f"{value:.{_DIGITS}f}"


def read_rows(path: str | Path, name: str = "") -> list[Row]:
    """The rows of a `sweep.json`, from anywhere.

    name : what to call it in errors, where that is not its path.

    Raises
    ------
    OutputError
        It cannot be read, or is no such file.
    """
    name = name or str(path)
    written = TypeAdapter(Written)
    rows = read_written(path, name, "sweep.json", lambda tree: written.validate_python(tree, strict=True)["rows"])
    odd = next((row for row in rows if not row["error"] and row["figures"].keys() != set(FIGURES)), None)
    if odd or not rows or len(rows) > _FEW:
        raise OutputError(f"{name!r} holds rows without their figures, none, or over {_FEW}; open another sweep.json")
    return rows
