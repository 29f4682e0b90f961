"""What made a result: versions of the libraries, and a fingerprint of this package's own code."""

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

from cedkv.version import __version__

_REPORTED_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


def library_versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    return {"python": platform.python_version(), "cedkv": __version__, **_package_versions()}


@cache  # it is looked up on the disk, and every state that is written asks for it
def _package_versions() -> dict[str, str]:
    return {name: version(name) for name in _REPORTED_PACKAGES}


@cache
def code_fingerprint() -> str:
    """A hash of this package's sources: another version may make another state with the same settings."""
    root, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
