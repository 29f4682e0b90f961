"""Extraction results on disk, keyed by what they were made of, so that the same demonstrations never train twice.

An entry is a state file, whose name is the key. It appears whole by a rename, and whoever reads it verifies it, so
several processes need no lock: two that make the same entry write the same thing, and a reader whose entry is evicted
in between has it open or finds none. An entry that is refused is dropped and made again.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cedkv.errors import OutputError, StateError
from cedkv.state.header import FORMAT_VERSION
from cedkv.state.prefix import KVPrefix

SUFFIX = ".safetensors"
DEFAULT_LIMIT_BYTES = 2**30
# A temporary file this old belongs to a process that died.
_ABANDONED_SECONDS = 3600


@dataclass(frozen=True)
class CacheEntry:
    """One entry; `used` is when it was last read or written, seconds since 1970."""

    key: str
    path: Path
    bytes: int
    used: float


@dataclass(frozen=True)
class StateCache:
    """A folder of states. Entries least recently used leave when it grows beyond `limit_bytes`."""

    folder: Path
    limit_bytes: int = DEFAULT_LIMIT_BYTES

    def get(self, key: str, fingerprint: str) -> KVPrefix | None:
        """The state under a key, or None; a damaged entry is dropped."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            prefix = KVPrefix.load(path, fingerprint)
        except StateError:
            with contextlib.suppress(OSError):  # a folder that may only be read
                path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):  # evicted meanwhile, or a folder that may only be read
            os.utime(path)
        return prefix

    def put(self, key: str, prefix: KVPrefix) -> None:
        """Keep a state, then evict what is too much.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        prefix.save(self._path(key))
        self._evict(keep=key)

    def get_or_make(self, key: str, fingerprint: str, make: Callable[[], KVPrefix]) -> KVPrefix:
        """The state under a key, made and kept if there is none."""
        prefix = self.get(key, fingerprint)
        if prefix is None:
            prefix = make()
            self.put(key, prefix)
        return prefix

    def entries(self) -> list[CacheEntry]:
        """All entries, the most recently used first."""
        found = []
        for path in self.folder.glob(f"[!.]*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # evicted by another process
                status = path.stat()
                found.append(CacheEntry(path.name.removesuffix(SUFFIX), path, status.st_size, status.st_mtime))
        return sorted(found, key=lambda entry: (entry.used, entry.key), reverse=True)

    def clear(self) -> int:
        """Remove every entry and what crashes left; the number of entries removed.

        Raises
        ------
        OutputError
            An entry cannot be removed.
        """
        entries = self.entries()
        try:
            for entry in entries:
                entry.path.unlink(missing_ok=True)
            for path in self.folder.glob(f".*{SUFFIX}-*"):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cache {str(self.folder)!r} cannot be cleared: {error.strerror}") from error
        return len(entries)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _evict(self, keep: str) -> None:
        """Remove the least recently used entries, but never the one just made."""
        total = 0
        for entry in self.entries():
            total += entry.bytes
            if total > self.limit_bytes and entry.key != keep:
                entry.path.unlink(missing_ok=True)
                total -= entry.bytes
        for path in self.folder.glob(f".*{SUFFIX}-*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()


def content_key(**content: Any) -> str:
    """A name for what a state is made of: the same for the same content and format version, whatever the order."""
    text = json.dumps({"format_version": FORMAT_VERSION, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]
