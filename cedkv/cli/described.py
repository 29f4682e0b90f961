"""A state as tables: what it is, what each slot is made of, and which settings it was made with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cedkv.cli.show import kib, printable, quoted, table
from cedkv.config import Config, settings_then
from cedkv.report import SlotToken
from cedkv.report.slots import describe_roles, describe_slots
from cedkv.state import KVPrefix


def facts_table(prefix: KVPrefix, path: str) -> str:
    """The file, and what can be said of the state as a whole."""
    return table([["file", path], ["file size", kib(Path(path).stat().st_size)], *_facts(prefix)])


def settings_table(prefix: KVPrefix) -> str:
    """The settings it was made with that are not the defaults; empty where there are none."""
    then, defaults = settings_then(prefix.meta.get("settings", {})), Config().model_dump(mode="json")
    changed = list(_changed_settings(then, defaults))
    return table([["setting that is not the default", "value"], *changed]) if changed else ""


def _facts(prefix: KVPrefix) -> Iterator[list[str]]:
    layers, kv_heads, slots, head_dim = prefix.keys.shape
    for name in ("method", "task", "model"):
        yield [name, quoted(prefix.meta[name]) if name in prefix.meta else "not recorded"]
    yield ["template", quoted(prefix.meta["template"]) if "template" in prefix.meta else "not recorded"]
    yield ["fingerprint", quoted(prefix.fingerprint)]
    yield ["slots", f"{slots}, {int(prefix.active.any(0).sum())} of them switched on"]
    yield ["positions", f"{_ranges(prefix.positions.tolist())}, then the query at {prefix.query_start}"]
    yield ["shape", f"{layers} layers, {kv_heads} key/value heads, {head_dim} numbers each"]
    yield ["KV size", f"{kib(prefix.nbytes)} in {str(prefix.keys.dtype).removeprefix('torch.')}"]
    if prefix.mixture:
        mass = describe_roles(prefix)["mean"]
        yield ["roles", ", ".join(f"{role} {share:.2f}" for role, share in mass.items())]


def _ranges(numbers: list[int]) -> str:
    """`0-15` for consecutive numbers."""
    if numbers and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{numbers[0]}-{numbers[-1]}"
    return " ".join(map(str, numbers))


def slots_table(prefix: KVPrefix, top: int = 4) -> str:
    """One line per slot: where it sits, in how many layers it is switched on, and the tokens it is made of."""
    if prefix.mixture is None:
        return "The slots are unconstrained: they are not made of demonstration tokens."
    active = prefix.active.sum(0).tolist()
    if not prefix.slots:
        return "There are no slots: the state is the base."
    rows = [["slot", "position", "layers", "what it is; weight, token, role, demonstration"]]
    for slot in describe_slots(prefix, top):
        made_of = [printable(slot["words"]), *(_token(token) for token in slot["tokens"])] if slot["tokens"] else []
        rows.append(
            [str(slot["slot"]), str(slot["position"]), str(active[slot["slot"]]), "; ".join(made_of) or "null slot"]
        )
    return table(rows, right=(0, 1, 2))


def _token(token: SlotToken) -> str:
    demo = f"demo {token['demo']}" if token["demo"] >= 0 else "start of text"
    return f"{token['weight']:.2f} {quoted(token['text'])} {token['role']} {demo}"


def _changed_settings(settings: dict[str, Any], defaults: dict[str, Any], path: str = "") -> Iterator[list[str]]:
    for name, value in settings.items():
        default = defaults.get(name)
        if isinstance(value, dict) and isinstance(default, dict):
            yield from _changed_settings(value, default, f"{path}{name}.")
        elif value != default:
            yield [path + name, quoted(value)]
