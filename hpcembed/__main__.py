"""``python -m hpcembed``."""

import sys

from hpcembed.cli import main

if __name__ == "__main__":
    sys.exit(main())
