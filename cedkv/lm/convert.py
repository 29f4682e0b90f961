"""GGUF files as folders of safetensors, converted once and kept in the user's cache."""

import hashlib
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from cedkv.errors import ModelError, first_line
from cedkv.files import whole_folder
from cedkv.lm.fingerprint import file_fingerprint, write_source

# To be raised when what `_convert` writes changes. The rest of the conversion is the work of these packages,
# so a model converted by other versions of them is not taken for this one's.
_CONVERSION = 1
_CONVERTERS = ("transformers", "gguf", "tokenizers")


def cache_root() -> Path:
    """Where converted models and extraction results are kept: `CEDKV_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("CEDKV_CACHE") or Path.home() / ".cache" / "cedkv")


def converted_folder(gguf: Path) -> Path:
    """Dequantise a GGUF file once; later loads read plain safetensors. The folder appears whole or not at all.

    Raises
    ------
    ModelError
        The file cannot be read.
    OutputError
        The cache folder cannot be written.
    """
    fingerprint = file_fingerprint(gguf)
    target = cache_root() / "models" / f"{gguf.stem}-{fingerprint[:16]}-{_conversion_version()}"
    if target.is_dir():
        return target
    print(f"{gguf.name} is converted, once; this takes a minute or two", file=sys.stderr, flush=True)
    with whole_folder(target, once=True, remedy="set CEDKV_CACHE to another folder") as building:
        try:
            _convert(gguf, building)
            write_source(building, fingerprint)
        except Exception as error:  # the gguf reader raises many kinds for a broken file
            raise ModelError(f"model file {str(gguf)!r} cannot be read: {first_line(error)}") from error
    return target


def _convert(gguf: Path, folder: Path) -> None:
    source: dict[str, Any] = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    with _read_once(), _without_bar():
        AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
        AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        ).save_pretrained(folder)


@contextmanager
def _read_once() -> Iterator[None]:
    """transformers parses the whole file for its settings, its tokenizer and its tensors, and makes the table of tensor
    names for every module of the model."""
    # Importing it takes a while, and a model that is converted already does not need it.
    package: Any = importlib.import_module("gguf")
    kept = {name: getattr(package, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, made in (kept | {"GGUFReader": _plain(package.GGUFReader)}).items():
        setattr(package, name, cache(made))
    try:
        yield
    finally:
        for name, made in kept.items():
            setattr(package, name, made)


def _plain(reader: Any) -> Any:
    """That reader, with its file as a plain array: each slice of numpy's memmap is a memmap, ten times as dear."""

    class PlainReader(reader):
        @property
        def data(self):
            return self._data

        @data.setter
        def data(self, mapped):
            self._data = np.asarray(mapped)

    return PlainReader


@contextmanager
def _without_bar() -> Iterator[None]:
    """transformers draws a bar while it converts, and has no switch for this one."""
    module: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    bar = module.tqdm
    module.tqdm = lambda tensors, desc: tensors
    try:
        yield
    finally:
        module.tqdm = bar


def _conversion_version() -> str:
    converters = [f"{name} {version(name)}" for name in _CONVERTERS]
    return hashlib.sha256(f"{_CONVERSION} {converters}".encode()).hexdigest()[:8]
