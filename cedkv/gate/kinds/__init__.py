"""The kinds of gate, one file each. A new kind is a file and a line in `KINDS`."""

from cedkv.gate.kinds import copied, mixture
from cedkv.gate.kinds.base import Kind
from cedkv.gate.kinds.saved import in_place_of_student

KINDS: dict[int, Kind] = {
    kind.phase: kind
    for kind in (
        copied.KIND,
        mixture.KIND,
    )
}

__all__ = ["KINDS", "Kind", "in_place_of_student"]
