"""Rows of long measurements that are on the disk as soon as they are known, so that the same command goes on later.

A JSON line per row. A row is one write at the end of the file, so several processes may add to one ledger, and one
that dies leaves at worst its last line torn; a torn line is not there, and its row is measured again.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cedkv.errors import OutputError
from cedkv.provenance import code_fingerprint

Row = dict[str, Any]


def row_key(**content: Any) -> str:
    """A name for all that a row depends on (settings, model fingerprint, seed, ...) and for the code that makes it."""
    text = json.dumps({"code": code_fingerprint(), **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@dataclass(frozen=True)
class Ledger:
    """A file of rows, each under its key. Of two rows with one key the later one counts."""

    path: Path

    @classmethod
    def beside(cls, table: Path) -> "Ledger":
        """The ledger of a table, a file that is written anew from the rows whenever one comes.

        Raises
        ------
        OutputError
            There is such a file and no ledger: its rows, of an earlier version, would be lost.
        """
        ledger = cls(table.with_suffix(".jsonl"))
        if table.exists() and not ledger.path.exists():
            raise OutputError(f"table {str(table)!r} has no ledger {ledger.path.name} beside it; choose another --out")
        return ledger

    def rows(self) -> dict[str, Row]:
        """All rows by their keys, in the order in which their keys first came.

        Raises
        ------
        OutputError
            The file cannot be read, or holds lines and none of them is a row.
        """
        try:
            lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        except OSError as error:
            raise OutputError(f"ledger {str(self.path)!r} cannot be read: {error.strerror}") from error
        found: dict[str, Row] = {}
        for line in filter(None, lines):
            try:
                entry = json.loads(line)
                found[entry["key"]] = entry["row"]
            except (ValueError, KeyError, TypeError):  # torn: whoever wrote it died
                continue
        if not found and len(lines) > 1:
            raise OutputError(f"ledger {str(self.path)!r} holds no rows; choose another file")
        return found

    def put(self, key: str, row: Row) -> None:
        """Add a row.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        line = json.dumps({"key": key, "row": row}, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                size = os.fstat(file).st_size
                torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
                os.write(file, b"\n" * torn + line)
            finally:
                os.close(file)
        except OSError as error:
            raise OutputError(f"ledger {str(self.path)!r} cannot be written: {error.strerror}") from error
