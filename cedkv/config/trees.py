"""Trees of settings: one laid over another, and what stands at a path."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    """The tree that holds a value at a path and nothing else."""
    for name in reversed(path):
        value = {name: value}
    return value


def overlaid(tree: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with what another holds in place of its own, mapping by mapping."""
    merged = dict(tree)
    for key, value in overlay.items():
        both = isinstance(value, Mapping) and isinstance(tree.get(key), Mapping)
        merged[key] = overlaid(tree[key], value) if both else value
    return merged


def value_at(tree: Any, path: Sequence[str]) -> Any:
    """What stands at a path, or None where a tree has no such path."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a tree by dotted path, in its order: `phase2.select.mode` and its value."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
