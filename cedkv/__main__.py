"""`python -m cedkv`, and the `cedkv` command of an installed package."""

import os
import sys

# Threads that spin while they wait make a busy machine ten times slower; torch's OpenMP reads this at import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from cedkv.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
