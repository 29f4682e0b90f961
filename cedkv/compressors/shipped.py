"""What comes with the package: the gists, and the extractors of models."""

from pathlib import Path

from cedkv.compressors.extractor.files import noted_fingerprint
from cedkv.errors import ConfigError

_ADAPTERS = Path(__file__).parent / "adapters"
_FOLDER = _ADAPTERS / "gist_25"


def gist_adapter() -> Path:
    """The folder of the adapter that ships, for the embedded model.

    Raises
    ------
    ConfigError
        None ships with this version.
    """
    if not (_FOLDER / "gist.json").is_file():
        raise ConfigError(
            "no gists ship with this version; train some (python -m cedkv train gist --config "
            "configs/gist/gist_25.yaml) and name their adapter"
        )
    return _FOLDER


def shipped_extractor(fingerprint: str) -> Path | None:
    """The folder of the extractor that ships for a model; None where none does."""
    folders = sorted(_ADAPTERS.glob("extractor*"))
    return next((folder for folder in folders if noted_fingerprint(folder) == fingerprint), None)
