"""The one folder of states that a server offers, by name."""

import re
from pathlib import Path

from .errors import Refused
from .model import read_model
from .state import State, read_state

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SUFFIX = ".safetensors"


def check_name(name: object) -> str:
    """Refuse what is not a plain name: no path leads out of the folder.

    Raises
    ------
    Refused
        It is no text, or has other signs than letters, digits, dots, hyphens and underscores.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refused(f"state name {name!r:.120} is no name: use letters, digits, '.', '-' and '_', and no path")
    return name


class StateFolder:
    """States of one model, read when first asked for, and again when their file has changed.

    Parameters
    ----------
    shape : layers, key/value heads and head size of the model; any other state is refused.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        self.folder, self.shape = folder, shape
        self.model = read_model(folder)
        self._read: dict[str, tuple[tuple[int, ...], State]] = {}

    @property
    def placeholder(self) -> int:
        """The token id that stands for a slot in a prompt."""
        return self.model["placeholder"]

    def get(self, name: object) -> State:
        """A state by its name.

        Raises
        ------
        Refused
            There is none, its file is damaged or cannot be served, or it is another model's.
        """
        known = check_name(name)
        path = self.folder / (known + SUFFIX)
        try:
            status = path.stat()
        except OSError as error:
            raise Refused(f"there is no state {name!r}") from error
        version = (status.st_mtime_ns, status.st_size, status.st_ino)
        if known not in self._read or self._read[known][0] != version:
            self._read.pop(known, None)
            self._read[known] = (version, self._checked(read_state(path), known))
        return self._read[known][1]

    def _checked(self, state: State, name: str) -> State:
        if state.fingerprint != self.model["fingerprint"]:
            raise Refused(
                f"state {name!r} was made with a model of fingerprint {state.fingerprint}, the model's is "
                f"{self.model['fingerprint']}"
            )
        layers, kv_heads, _, head_dim = state.keys.shape
        if (layers, kv_heads, head_dim) != self.shape:
            raise Refused(f"state {name!r} has shape {(layers, kv_heads, head_dim)}, the model needs {self.shape}")
        return state
