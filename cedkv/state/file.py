"""The state file: safetensors with a checked header. Specified in docs/state-format.md.

Everything is verified before a prefix is made of it; nothing is ever unpickled.
"""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cedkv.errors import OutputError, StateError
from cedkv.state.prefix import ROLES, DemoTokens, KVPrefix, Mixture

FORMAT = "cedkv-state"
FORMAT_VERSION = 1
MAX_HEADER_BYTES = 16_000_000
_TENSORS = {"keys", "values", "positions", "active"}
_FLOATS = {torch.float32, torch.float16, torch.bfloat16}


def save_prefix(prefix: KVPrefix, path: str | Path) -> None:
    """Write a state file. It appears whole or not at all, also when the process dies meanwhile.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    path = Path(path)
    tensors = {"keys": prefix.keys, "values": prefix.values, "positions": prefix.positions, "active": prefix.active}
    header = {
        "format_version": FORMAT_VERSION,
        "fingerprint": prefix.fingerprint,
        "query_start": prefix.query_start,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "meta": prefix.meta,
    }
    if prefix.mixture:
        tensors["weights"] = prefix.mixture.weights
        if prefix.mixture.key_weights is not None:
            tensors["key_weights"] = prefix.mixture.key_weights
        header["tokens"] = asdict(prefix.mixture.tokens)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(header, ensure_ascii=False, sort_keys=True)
    metadata = {"format": FORMAT, "header": text, "sha256": _digest(text, tensors)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        os.close(handle)
        try:
            save_file(tensors, temporary, metadata)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"state file {str(path)!r} cannot be written: {error}") from error


def load_prefix(path: str | Path, fingerprint: str | None = None) -> KVPrefix:
    """Read and verify a state file.

    Parameters
    ----------
    fingerprint : of the model it is meant for; a state made with another model is refused.

    Raises
    ------
    StateError
        The file is missing, truncated, altered, of another format version, or made for another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise StateError(f"state file {str(path)!r}: metadata 'format' is not {FORMAT!r}; it is no state file")
            header = _read_header(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except (OSError, SafetensorError) as error:
        raise StateError(f"state file {str(path)!r} cannot be read: {error}") from error
    if _digest(metadata["header"], tensors) != metadata.get("sha256"):
        raise StateError(f"state file {str(path)!r}: 'sha256' does not match; the file is damaged or was altered")
    if fingerprint is not None and header["fingerprint"] != fingerprint:
        raise StateError(
            f"state file {str(path)!r}: 'fingerprint' is {header['fingerprint']}, the model's is {fingerprint}; "
            "load the model it was made for"
        )
    return _build(path, header, tensors)


def _read_header(path: str | Path, metadata: dict[str, str]) -> dict:
    text = metadata.get("header", "")
    if len(text) > MAX_HEADER_BYTES:
        raise StateError(f"state file {str(path)!r}: 'header' has {len(text)} bytes, more than {MAX_HEADER_BYTES}")
    try:
        header = json.loads(text)
        version = header["format_version"]
    except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise StateError(f"state file {str(path)!r}: 'header' cannot be read; the file is damaged") from error
    if version != FORMAT_VERSION:
        raise StateError(
            f"state file {str(path)!r}: 'format_version' is {version!r}, this version reads {FORMAT_VERSION}"
        )
    return header


def _build(path: str | Path, header: dict, tensors: dict[str, Tensor]) -> KVPrefix:
    names = _TENSORS | ({"weights"} if "tokens" in header else set())
    if (found := tensors.keys() - ({"key_weights"} if "tokens" in header else set())) != names:
        wrong = ", ".join(sorted(found ^ names))
        raise StateError(f"state file {str(path)!r}: tensors {wrong} are missing or unexpected")
    keys, active = tensors["keys"], tensors["active"]
    expected = {"values": keys.shape, "positions": keys.shape[2:3], "active": (keys.shape[0], *keys.shape[2:3])}
    if keys.ndim != 4:
        raise StateError(f"state file {str(path)!r}: 'keys' has shape {tuple(keys.shape)}, not four dimensions")
    for name, shape in expected.items():
        if tensors[name].shape != torch.Size(shape):
            raise StateError(
                f"state file {str(path)!r}: {name!r} has shape {tuple(tensors[name].shape)}, expected {tuple(shape)}"
            )
    for name in ("keys", "values"):
        if tensors[name].dtype not in _FLOATS or not tensors[name].isfinite().all():
            raise StateError(f"state file {str(path)!r}: {name!r} is not made of finite floating-point numbers")
    mixture = _build_mixture(path, header, tensors, slots=keys.shape[2]) if "tokens" in header else None
    return KVPrefix(
        keys=keys,
        values=tensors["values"],
        positions=tensors["positions"],
        query_start=int(header["query_start"]),
        active=active.bool(),
        fingerprint=header["fingerprint"],
        mixture=mixture,
        meta=header["meta"],
    )


def _build_mixture(path: str | Path, header: dict, tensors: dict[str, Tensor], slots: int) -> Mixture:
    tokens = DemoTokens(**{name: tuple(column) for name, column in header["tokens"].items()})
    for name in sorted(tensors.keys() & {"weights", "key_weights"}):
        if tensors[name].shape[1:] != (slots, len(tokens)):
            raise StateError(
                f"state file {str(path)!r}: {name!r} has shape {tuple(tensors[name].shape)}, "
                f"expected [layers, {slots}, {len(tokens)}]"
            )
    if not set(tokens.roles) <= set(ROLES):
        raise StateError(f"state file {str(path)!r}: 'tokens' has roles other than {', '.join(ROLES)}")
    return Mixture(tensors["weights"], tokens, tensors.get("key_weights"))


def _digest(header: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.view(torch.uint8).numpy()))
    return digest.hexdigest()
