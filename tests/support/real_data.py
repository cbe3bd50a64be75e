"""Folder of the real data sets."""

import os
from pathlib import Path

DATA = Path(os.environ.get("HPCEMBED_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
