"""`python -m cedkv`, and the `cedkv` command of an installed package."""

import sys

from cedkv.cli import main

if __name__ == "__main__":
    sys.exit(main())
