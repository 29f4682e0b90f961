"""Which model a folder of states belongs to, told by the bytes of its files.

The fingerprint in a state is the project's own and takes the project to compute. `serve export`, which has computed it,
writes beside it the SHA-256 of each file that it was computed from, so that an engine needs nothing but the files.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from .errors import Refused

MODEL_FILE = "model.json"
_INDEX = "model.safetensors.index.json"
_OTHERS = ("config.json", "tokenizer.json")


def files_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a model's folder that changes what keys mean: weights, config and vocabulary.

    Raises
    ------
    Refused
        The folder holds no safetensors weights.
    """
    if (folder / _INDEX).is_file():
        shards = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"]
        weights = sorted(set(shards.values()))
    else:
        weights = ["model.safetensors"]
    names = [*weights, *(name for name in _OTHERS if (folder / name).is_file())]
    try:
        return {name: _digest(folder / name) for name in names}
    except OSError as error:
        raise Refused(f"model folder {str(folder)!r} cannot be read: {error}; serve a folder of safetensors") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_model(folder: Path) -> dict[str, Any]:
    """What `serve export` wrote of the model: `fingerprint`, `files`, `placeholder`.

    Raises
    ------
    Refused
        The folder has no such file, or it cannot be read.
    """
    try:
        model = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
        fingerprint, files, placeholder = (model[name] for name in ("fingerprint", "files", "placeholder"))
        if not isinstance(fingerprint, str) or not isinstance(files, dict) or type(placeholder) is not int:
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(
            f"folder of states {str(folder)!r} has no {MODEL_FILE} that can be read; write it with "
            "'python -m cedkv serve export --to vllm'"
        ) from error
    return {"fingerprint": fingerprint, "files": files, "placeholder": placeholder}


def check_files(model: dict[str, Any], folder: Path) -> None:
    """Refuse a model that differs in any file from the one that the states were exported for.

    Raises
    ------
    Refused
        A file is another or missing.
    """
    found = files_of(folder)
    for name in sorted(found.keys() | model["files"].keys()):
        if found.get(name) != model["files"].get(name):
            raise Refused(
                f"{name!r} in the model's folder {str(folder)!r} is not the one that the states were exported for; "
                "serve that model, or export the states with --model for this one"
            )
