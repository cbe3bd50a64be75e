"""Networks of the benchmarks as a package, and the folder of trained weights."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

#: Folder with trained weights, as described for `--models-dir` of benchmarks/networks.py.
MODELS = Path(os.environ.get("HPCEMBED_MODELS_DIR", "/nonexistent"))

needs_models = pytest.mark.skipif(
    not (MODELS / "stories260K.bin").exists(), reason="HPCEMBED_MODELS_DIR names no models"
)


def reference_models() -> None:
    """Make benchmarks/reference_models importable as `reference_models`."""
    if "reference_models" in sys.modules:
        return
    folder = Path(__file__).parents[2] / "benchmarks" / "reference_models"
    spec = importlib.util.spec_from_file_location(
        "reference_models", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules["reference_models"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
