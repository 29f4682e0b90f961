"""Reading and writing safetensors containers so that every byte is accounted for.

The safetensors package maps or copies a whole file and lets padding and metadata be anything. A state is verified
before it is used, and reading it takes its own memory and no more; so the layout, which is eight bytes of length, a
JSON header and the tensors one after another, is read and written here. Other readers of safetensors read the files.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import torch
from torch import Tensor

from cedkv.errors import StateError
from cedkv.files import parse_json, whole_file

MAX_HEADER_BYTES = 16_000_000
DTYPES = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_UNSEALED = "0" * 64


@dataclass(frozen=True)
class Entry:
    """One tensor of a container: what the header says, and the offset of its first byte in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Container:
    """An open container whose header has been read and whose layout fits the file. No tensor has been read.

    header : the bytes of the JSON header as they are in the file.
    """

    path: Path
    file: BufferedReader
    header: bytes
    metadata: dict[str, str]
    entries: dict[str, Entry]

    def check_seal(self) -> None:
        """Refuse a header of which any byte differs from what was written."""
        seal = self.metadata.get("sha256", "")
        blank = self.header.replace(seal.encode(), _UNSEALED.encode(), 1)
        if len(seal) != len(_UNSEALED) or hashlib.sha256(blank).hexdigest() != seal:
            raise damaged(self.path, "'sha256' does not match the header")

    def read(self, name: str, sha256: str) -> Tensor:
        """One tensor, read straight into its own memory and compared with its checksum."""
        entry = self.entries[name]
        tensor = torch.empty(entry.shape, dtype=torch.uint8 if entry.dtype == torch.bool else entry.dtype)
        memory = as_bytes(tensor)
        self.file.seek(entry.start)
        if self.file.readinto(memory) != len(memory) or hashlib.sha256(memory).hexdigest() != sha256:
            raise damaged(self.path, f"the checksum of {name!r} does not match")
        if entry.dtype != torch.bool:
            return tensor
        if (tensor > 1).any():
            raise damaged(self.path, f"{name!r} is not made of truth values")
        return tensor.view(torch.bool)


def damaged(path: Path, what: str) -> StateError:
    return StateError(f"state file {str(path)!r}: {what}; the file is damaged or was altered")


def open_container(path: Path, file: BufferedReader) -> Container:
    """Read the header of an open file and check that tensors and file length fit it.

    Raises
    ------
    StateError
        The file is truncated, longer than its header says, no safetensors file, or its header is too large.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length < 2:
        raise damaged(path, f"it has {size} bytes and no 'header'")
    if length > MAX_HEADER_BYTES:
        raise damaged(path, f"its 'header' would have {length} bytes, more than {MAX_HEADER_BYTES}")
    if 8 + length > size:
        raise damaged(path, f"it ends within its 'header', at byte {size}")
    raw = file.read(length)
    try:
        header = parse_json(raw)
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("metadata other than text")
        entries, end = _entries(header, 8 + length)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(path, "its safetensors 'header' cannot be read") from error
    if end != size:
        raise damaged(path, f"it has {size} bytes, its 'header' says {end}")
    return Container(path, file, raw, metadata, entries)


def _entries(header: dict, start: int) -> tuple[dict[str, Entry], int]:
    """The tensors, which must follow one another without a gap, and the offset at which the last one ends."""
    entries = {}
    position = start
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        if not all(type(extent) is int and 0 <= extent < 2**31 for extent in shape):
            raise ValueError(f"shape of {name!r}")
        end = position + math.prod(shape) * dtype.itemsize
        if entry["data_offsets"] != [position - start, end - start]:
            raise ValueError(f"offsets of {name!r}")
        entries[name] = Entry(dtype, shape, position)
        position = end
    return entries, position


def as_bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def write_container(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous CPU tensors with sealed metadata. The file appears whole or not at all.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    header = _sealed_header(tensors, metadata)
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for tensor in tensors.values():
            file.write(as_bytes(tensor))
        file.flush()
        os.fsync(file.fileno())


def _sealed_header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The JSON header, padded as safetensors pads it, with the checksum of itself (the checksum as zeros) inside."""
    # First, so that no text of the user's can look like the place of the seal.
    header: dict = {"__metadata__": {"sha256": _UNSEALED, **metadata}}
    position = 0
    for name, tensor in tensors.items():
        end = position + tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return text.replace(_UNSEALED.encode(), hashlib.sha256(text).hexdigest().encode(), 1)
