"""The gists that come with the package."""

from pathlib import Path

from cedkv.errors import ConfigError

_FOLDER = Path(__file__).parent / "adapters" / "gist_25"


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
