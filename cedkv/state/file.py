"""The state file: safetensors with a sealed header. Specified in docs/state-format.md.

Everything that can be checked without a tensor is checked first; a tensor is checked as it is read, and a prefix is
made of them only when all have passed. Nothing is ever unpickled.
"""

import hashlib
import json
import math
import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

import torch
from jaxtyping import Bool, Float, Int
from pydantic import ValidationError
from torch import Tensor

from cedkv.errors import StateError
from cedkv.files import check_state_opens, parse_json
from cedkv.provenance import library_versions
from cedkv.state.container import Container, as_bytes, damaged, open_container, write_container
from cedkv.state.header import FORMAT, FORMAT_VERSION, Header
from cedkv.state.mixture import PER_SLOT, DemoTokens, Mixture
from cedkv.state.precision import (
    INTEGERS,
    PRECISIONS,
    SCALE_SUFFIX,
    check_precision,
    decode,
    encode,
    precision_of,
    stored_layout,
)
from cedkv.state.sparse import to_dense, to_sparse

_MIXTURE = ("weights", "key_weights")
_INDEX_SUFFIX = "_index"
# What the rounding of fp32 may make a row of mixture weights miss of one.
_SIMPLEX_TOLERANCE = 1e-4
# A few bytes can ask for a mixture of any size, as it is stored sparse; this many numbers are 1 GiB.
_MAX_MIXTURE = 2**28
# Roles are shown as they are, each with its share of every slot.
_ROLE = re.compile("[a-z][a-z_]{0,31}")
_MAX_ROLES = 16


class StateFields(TypedDict):
    """The fields of a `KVPrefix`, which this file makes none of: it would have to know it, and it knows this file."""

    keys: Float[Tensor, "layers kv_heads slots head_dim"]
    values: Float[Tensor, "layers kv_heads slots head_dim"]
    positions: Int[Tensor, " slots"]
    query_start: int
    active: Bool[Tensor, "layers slots"]
    fingerprint: str
    mixture: Mixture | None
    meta: dict


def write_state(state: StateFields, path: str | Path, precision: str | None = None) -> None:
    """Write a state file. It appears whole or not at all, also when the process dies meanwhile.

    Parameters
    ----------
    precision : of keys and values, one of `PRECISIONS`; by default the one they have.

    Raises
    ------
    OutputError
        The folder cannot be written.
    StateError
        The precision is unknown, the state's numbers do not fit into it, or a file may not hold its mixture or roles.
    """
    mixture = state["mixture"]
    precision = precision or precision_of(state["keys"].dtype)
    check_precision(precision)
    if mixture and (odd := _odd_roles(mixture.tokens)):
        raise StateError(f"state file {str(path)!r}: {odd}")
    tensors = {**encode("keys", state["keys"], precision), **encode("values", state["values"], precision)}
    tensors |= {"positions": state["positions"], "active": state["active"]}
    for name in _MIXTURE:
        if mixture and (weights := getattr(mixture, name)) is not None:
            if weights.numel() > _MAX_MIXTURE:
                raise StateError(
                    f"state file {str(path)!r}: {name!r} has {weights.numel()} numbers and a file may hold "
                    f"{_MAX_MIXTURE}; use fewer or shorter demonstrations, fewer slots, or mixture.scope per_layer"
                )
            tensors[name + _INDEX_SUFFIX], tensors[name] = to_sparse(weights)
    for name in PER_SLOT:
        if mixture and (numbers := getattr(mixture, name)) is not None:
            tensors[name] = numbers.float()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    layers, kv_heads, slots, head_dim = state["keys"].shape
    header = {
        "format_version": FORMAT_VERSION,
        "slots": slots,
        "layers": layers,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "dtype": precision,
        "fingerprint": state["fingerprint"],
        "query_start": state["query_start"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": library_versions(),
        "checksums": {name: hashlib.sha256(as_bytes(tensor)).hexdigest() for name, tensor in tensors.items()},
        "meta": state["meta"],
    }
    if mixture:
        header["tokens"] = asdict(mixture.tokens)
    text = json.dumps(header, ensure_ascii=False, sort_keys=True)
    write_container(Path(path), tensors, {"format": FORMAT, "header": text})


def read_state(path: str | Path, fingerprint: str | None = None) -> StateFields:
    """Read and verify a state file. It takes the memory of its tensors and no more.

    Parameters
    ----------
    fingerprint : of the model it is meant for; a state made with another model is refused.

    Raises
    ------
    StateError
        The file is missing, truncated, altered, of another format version, or made for another model.
    """
    path = Path(path)
    check_state_opens(path)
    try:
        with path.open("rb") as file:
            container = open_container(path, file)
            header = _read_header(container)
            if fingerprint is not None and header.fingerprint != fingerprint:
                raise StateError(
                    f"state file {str(path)!r}: 'fingerprint' is {header.fingerprint}, the model's is {fingerprint}; "
                    "load the model it was made for"
                )
            _check_layout(container, header)
            tensors = {name: container.read(name, header.checksums[name]) for name in container.entries}
    except OSError as error:
        raise StateError(f"state file {str(path)!r} cannot be read: {error}") from error
    _check_contents(path, header, tensors)
    return _build(header, tensors)


def _read_header(container: Container) -> Header:
    path = container.path
    if container.metadata.get("format") != FORMAT:
        raise StateError(f"state file {str(path)!r}: metadata 'format' is not {FORMAT!r}; it is no state file")
    text = container.metadata.get("header", "")
    try:
        version = parse_json(text)["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(path, "'header' cannot be read") from error
    if version != FORMAT_VERSION:
        raise StateError(
            f"state file {str(path)!r}: 'format_version' is {version!r}, this version reads {FORMAT_VERSION}; "
            "extract the state again or use the version that made it"
        )
    container.check_seal()
    try:
        header = Header.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise damaged(path, f"header {where!r}: {first['msg'].lower()}") from error
    if header.dtype not in PRECISIONS:
        raise damaged(path, f"header 'dtype' is {header.dtype!r}, not one of {', '.join(PRECISIONS)}")
    if header.tokens and len({len(column) for column in vars(header.tokens).values()}) > 1:
        raise damaged(path, "the columns of 'tokens' differ in length")
    if header.tokens and (odd := _odd_roles(header.tokens)):
        raise damaged(path, odd)
    return header


def _odd_roles(tokens: DemoTokens) -> str:
    """What no file may have among its roles; empty where all is well."""
    names = tokens.role_names
    if len(names) > _MAX_ROLES:
        return f"'tokens' has {len(names)} roles, and a file may have {_MAX_ROLES}"
    odd = [name for name in names if not _ROLE.fullmatch(name)]
    return f"'tokens' has a role {odd[0][:40]!r}, and a role is a short word of a-z and _" if odd else ""


def _check_layout(container: Container, header: Header) -> None:
    """Names, dtypes and shapes of the tensors, before one of them is read."""
    expected = {
        **stored_layout("keys", header.shape, header.dtype),
        **stored_layout("values", header.shape, header.dtype),
        "positions": (torch.int64, (header.slots,)),
        "active": (torch.bool, (header.layers, header.slots)),
    }
    found = container.entries
    for name in _MIXTURE:
        index = name + _INDEX_SUFFIX
        if header.tokens and (name == "weights" or found.keys() & {name, index}):
            shape = _mixture_shape(container, header, name)
            expected |= {name: (torch.float32, shape), index: (torch.int32, shape)}
    for name in PER_SLOT:
        if header.tokens and name in found:
            expected[name] = (torch.float32, (header.layers, header.kv_heads, header.slots))
    if wrong := expected.keys() ^ found.keys():
        raise damaged(container.path, f"tensors {', '.join(sorted(wrong))} are missing or unexpected")
    if missing := found.keys() - header.checksums.keys():
        raise damaged(container.path, f"header 'checksums' has none for {', '.join(sorted(missing))}")
    for name, entry in sorted(found.items()):
        if (entry.dtype, entry.shape) != expected[name]:
            given, wanted = (
                f"{str(dtype).removeprefix('torch.')} of shape {shape}"
                for dtype, shape in ((entry.dtype, entry.shape), expected[name])
            )
            raise damaged(container.path, f"{name!r} is {given}, expected {wanted}")


def _mixture_shape(container: Container, header: Header, name: str) -> tuple[int, ...]:
    """The shape of a mixture as it is stored, taken from the file where the file may choose it."""
    if name not in container.entries:
        return ()
    shape, tokens = container.entries[name].shape, len(header.tokens or ())
    chosen = len(shape) == 4 and shape[0] in (1, header.layers) and shape[1] in (1, header.kv_heads)
    if not chosen or shape[2] != header.slots or shape[3] > tokens:
        wanted = f"({header.layers} or 1, {header.kv_heads} or 1, {header.slots}, {tokens} or fewer)"
        raise damaged(container.path, f"{name!r} is of shape {shape}, expected {wanted}")
    if math.prod(shape[:3]) * tokens > _MAX_MIXTURE:
        raise damaged(container.path, f"{name!r} would be a mixture of more than {_MAX_MIXTURE} numbers")
    return shape


def _check_contents(path: Path, header: Header, tensors: dict[str, Tensor]) -> None:
    for name in sorted(tensors.keys() - {"positions", "active"}):
        # Layer by layer, because looking for infinities makes a copy of what is looked at.
        if tensors[name].is_floating_point() and not all(layer.isfinite().all() for layer in tensors[name]):
            raise damaged(path, f"{name!r} is not made of finite floating-point numbers")
        if name.endswith((*_MIXTURE, SCALE_SUFFIX)) and (tensors[name] < 0).any():
            raise damaged(path, f"{name!r} has numbers below zero")
        if name in _MIXTURE:
            _check_mixture(path, name, tensors[name], tensors[name + _INDEX_SUFFIX], len(header.tokens or ()))
    if header.dtype in INTEGERS:
        _check_integers(path, header, tensors)
    positions = tensors["positions"]
    # A state of nothing but null slots has its query at 0, and its slots there too.
    if not ((positions >= 0) & (positions < max(header.query_start, 1))).all():
        raise damaged(path, f"'positions' are not all from 0 to before {header.query_start}")


def _check_mixture(
    path: Path,
    name: str,
    weights: Float[Tensor, "scope_layers scope_heads slots kept"],
    index: Int[Tensor, "scope_layers scope_heads slots kept"],
    tokens: int,
) -> None:
    total = weights.sum(-1)
    if (((total - 1).abs() > _SIMPLEX_TOLERANCE) & (total != 0)).any():
        raise damaged(path, f"{name!r} has rows that sum neither to one nor, as null slots do, to zero")
    if ((index < 0) | (index >= tokens)).any() or (index.diff(dim=-1) <= 0).any():
        raise damaged(path, f"{name + _INDEX_SUFFIX!r} has rows that are not tokens from 0 to {tokens - 1}, ascending")


def _check_integers(path: Path, header: Header, tensors: dict[str, Tensor]) -> None:
    """What no writer makes: -128, and nibbles of -8."""
    for name in ("keys", "values"):
        stored = tensors[name]
        unused = stored == -128 if header.dtype == "int8" else (stored & 15 == 0) | (stored >> 4 == 0)
        if unused.any():
            raise damaged(path, f"{name!r} has integers outside of {header.dtype}'s range")


def _build(header: Header, tensors: dict[str, Tensor]) -> StateFields:
    mixture = None
    if header.tokens:
        dense = {
            name: to_dense(tensors[name + _INDEX_SUFFIX], tensors[name], len(header.tokens or ()))
            for name in _MIXTURE
            if name in tensors
        }
        numbers = {name: tensors[name] for name in PER_SLOT if name in tensors}
        mixture = Mixture(tokens=header.tokens, **dense, **numbers)
    return StateFields(
        keys=decode("keys", tensors, header.shape, header.dtype),
        values=decode("values", tensors, header.shape, header.dtype),
        positions=tensors["positions"],
        query_start=header.query_start,
        active=tensors["active"],
        fingerprint=header.fingerprint,
        mixture=mixture,
        meta=header.meta.model_dump(exclude_unset=True),
    )
