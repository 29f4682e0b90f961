"""`python -m cedkv`, and the `cedkv` command of an installed package."""

import sys

from cedkv.openmp import settle_waiting

settle_waiting()  # before torch is imported

from cedkv.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
