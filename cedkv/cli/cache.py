"""List or clear the states that earlier extractions left in the cache."""

import argparse
from datetime import datetime
from pathlib import Path

from cedkv.cli.show import kib, quoted, table
from cedkv.errors import StateError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("ls", "clear"), help="ls: what is there, last used first; clear: remove it")


def run(args: argparse.Namespace) -> int:
    from cedkv.methods.cached import extraction_cache

    cache = extraction_cache()
    if args.action == "clear":
        print(f"{cache.clear()} states removed")
    else:
        entries = cache.entries()
        rows = [["state", "method", "task", "model", "slots", "size", "last used"]]
        for entry in entries:
            used = datetime.fromtimestamp(entry.used).isoformat(" ", "minutes")
            rows.append([entry.key[:12], *_facts(entry.path), kib(entry.bytes), used])
        total = sum(entry.bytes for entry in entries)
        if entries:
            print(table(rows, right=(4, 5)))
        print(f"{len(entries)} states, {kib(total)} of {kib(cache.limit_bytes)}")
    print(cache.folder)
    return 0


def _facts(path: Path) -> list[str]:
    from cedkv.state import KVPrefix

    try:
        prefix = KVPrefix.load(path)
    except StateError:
        return ["damaged", "", "", ""]
    return [*(quoted(prefix.meta.get(name, "")) for name in ("method", "task", "model")), str(prefix.slots)]
