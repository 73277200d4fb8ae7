"""``python -m gred`` is the same program as ``gred``."""

import sys

from gred.management.cli import main

if __name__ == "__main__":
    sys.exit(main())
