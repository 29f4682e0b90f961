"""`python -m cedkv`, and the `cedkv` command of an installed package."""

import sys
from io import TextIOWrapper

from cedkv.openmp import settle_waiting

settle_waiting()  # before torch is imported

from cedkv.cli import main  # noqa: E402

for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character gets its number, and not a traceback
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")

if __name__ == "__main__":
    sys.exit(main())
