"""What `cedkv diagnose` has written, read again from anywhere."""

from collections.abc import Sized
from pathlib import Path

from pydantic import FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from cedkv.errors import OutputError
from cedkv.files import read_written

_FEW = 1_000


class Measured(TypedDict):
    """How near slots are to the teacher, and how far they move other text; divergences in nats."""

    agreement: FiniteFloat
    kl: FiniteFloat
    off_mean: FiniteFloat
    off_p99: FiniteFloat


class BySlots(Measured):
    slots: int


class ByWeight(Measured):
    weight: FiniteFloat


class ByLayer(Measured):
    """The slots without a band of layers."""

    layers: list[int]


class ByRole(Measured):
    """The state without its slots of one role."""

    role: str
    slots: list[int]


class Found(TypedDict):
    name: str
    words: str
    option: str


class Diagnosis(TypedDict):
    """The parts of a diagnosis that are drawn; a file has more."""

    slots: int
    weight: FiniteFloat
    places: int
    queries: int
    references: dict[str, Measured]
    by_slots: list[BySlots]
    by_weight: list[ByWeight]
    by_layer: list[ByLayer]
    by_role: list[ByRole]
    bottlenecks: list[Found]


_WRITTEN = TypeAdapter(Diagnosis)


def read_diagnosis(path: str | Path, name: str = "") -> Diagnosis:
    """A `diagnosis.json`, from anywhere.

    name : what to call the file in errors, where that is not its path.

    Raises
    ------
    OutputError
        It cannot be read, or is no such file.
    """
    name = name or str(path)
    found = read_written(path, name, "diagnosis.json", lambda tree: _WRITTEN.validate_python(tree, strict=True))
    curves: list[Sized] = [found["by_slots"], found["by_weight"], found["by_layer"], found["by_role"]]
    sizes, bands = [point["slots"] for point in found["by_slots"]], [band["layers"] for band in found["by_layer"]]
    whole = all([*curves, *bands, found["bottlenecks"]]) and found["slots"] in sizes
    if not whole or sum(map(len, curves)) > _FEW:
        raise OutputError(f"{name!r} holds a curve without its points, or over {_FEW}; open another diagnosis.json")
    return found
