"""Wheels of the two packages, built as pip builds them, without an isolated environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_BUILD_SOURCE = "import sys, hatchling.build as b; print(b.build_sdist(sys.argv[1]))"
_BUILD = "import sys, hatchling.build as b; print(b.build_wheel(sys.argv[1]))"


def build_wheel(tree: Path, folder: Path, **environment: str) -> tuple[Path, str]:
    """Build the wheel of a source tree; return its path and the output of the build."""
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(folder)],
        cwd=tree, env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1], done.stdout + done.stderr


def build_sdist(tree: Path, folder: Path) -> Path:
    """Build the source distribution of a source tree and return its path."""
    done = subprocess.run(
        [sys.executable, "-c", _BUILD_SOURCE, str(folder)],
        cwd=tree, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]
