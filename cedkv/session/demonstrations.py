"""Demonstrations of a session that no task draws: kept as a file, which the session's configs name."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from cedkv.episodes import parse_demos
from cedkv.files import write_whole


def keep_demos(folder: Path, demos: Sequence[tuple[str, str]]) -> Path:
    """Write them into the folder, named after their content because earlier runs still name theirs.

    Raises
    ------
    DemoError
        They cannot be demonstrations.
    """
    lines = "".join(json.dumps({"input": x, "output": y}, ensure_ascii=False) + "\n" for x, y in demos)
    parse_demos(lines)
    path = folder / f"demonstrations-{hashlib.sha256(lines.encode()).hexdigest()[:8]}.jsonl"
    write_whole(path, lines)
    return path
