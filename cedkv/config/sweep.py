"""Settings of a sweep: which settings, tasks, seeds and methods are crossed with each other."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from pydantic import Field, StrictInt, ValidationInfo, field_validator

from cedkv.config.base import Seed, Settings
from cedkv.config.moved import path_today
from cedkv.config.trees import leaves

# Settings that a sweep says in another place, or that change none of its cells.
_ELSEWHERE = {
    "run.seed": "list seeds under `seeds`",
    "episode.task": "list tasks under `tasks`",
    "episode.task_file": "list .json files under `tasks`",
    "episode.demos_file": "list .json files under `tasks`",
    "phase2.prefix_len": "here every method has phase3.slots",
}


class SweepConfig(Settings):
    """The settings of `cedkv sweep`."""

    base: str | None = Field(None, description="Settings that all cells share: a YAML file, or one that ships.")
    settings: dict[str, Any] = Field({}, description="Laid over them, written as in such a file.")
    grid: dict[str, tuple[Any, ...]] = Field(
        {}, description="Dotted settings, each with its values; every combination is a point."
    )
    list: tuple[dict[str, Any], ...] = Field(
        (), description="In place of a grid: the points one by one, each a mapping of dotted settings to values."
    )
    tasks: tuple[str, ...] = Field(
        ("present-past",), min_length=1, description="Names of shipped tasks, or task files (.json)."
    )
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="Seeds of every draw.")
    methods: tuple[str, ...] = Field(("chunked",), min_length=1, description="Methods that make the slots.")
    workers: StrictInt = Field(2, ge=1, le=4096, description="Cells that are judged at once, in a process each.")
    threads: StrictInt = Field(
        1, ge=1, le=1024, description="Cores of a cell, the same wherever it runs: so figures are the same too."
    )

    @field_validator("tasks", "seeds", "methods")
    @classmethod
    def _once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is there twice; name it once")
        return values

    @field_validator("settings")
    @classmethod
    def _shared(cls, settings: dict[str, Any]) -> dict[str, Any]:
        _check_places(settings)
        return settings

    @field_validator("grid")
    @classmethod
    def _has_values(cls, grid: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for path, values in grid.items():
            if not values:
                raise ValueError(f"{path} has no values; give some, or leave it out")
            for value in values:
                _check_places({path: value})
            cls._once(values)
        return grid

    @field_validator("list")
    @classmethod
    def _in_place_of_a_grid(cls, points: tuple[dict[str, Any], ...], info: ValidationInfo) -> tuple[dict, ...]:
        if points and info.data.get("grid"):
            raise ValueError("there is a grid too; give one of them")
        for point in points:
            _check_places(point)
        cls._once(points)
        return points

    @property
    def points(self) -> tuple[dict[str, Any], ...]:
        """The settings, by dotted path, in which the cells of a task, seed and method differ."""
        if self.list:
            return self.list
        return tuple(dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values()))


def _check_places(tree: Mapping[str, Any]) -> None:
    for path, _ in leaves(tree):
        today = ".".join(path_today(tuple(path.split("."))))
        if today in _ELSEWHERE:
            raise ValueError(f"{path} is no setting to sweep; {_ELSEWHERE[today]}")
