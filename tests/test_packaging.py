"""The wheel of hpcembed: compiled passes where there is a C compiler, and numpy otherwise."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from wheels import build_wheel

ROOT = Path(__file__).parents[1]
LIBRARY = "hpcembed/operators/native/passes.so"

pytestmark = [
    pytest.mark.skipif(find_spec("hatchling") is None, reason="the builder hatchling is missing"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the files of which the wheel is made, without a library."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("hpcembed", "solvers"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    return folder


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_wheel_holds_a_library_that_works(tree, tmp_path):
    wheel, _ = build_wheel(tree, tmp_path)
    assert wheel.name.startswith("hpcembed-")
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(LIBRARY, tmp_path)
    use = "import ctypes, sys; l = ctypes.CDLL(sys.argv[1]); l.supported.restype = ctypes.c_char_p"
    done = subprocess.run(
        [sys.executable, "-c", f"{use}; print(l.supported().decode())", str(tmp_path / LIBRARY)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()


def test_a_failing_compiler_leaves_a_wheel_of_python(tree, tmp_path):
    wheel, output = build_wheel(tree, tmp_path, CC="/nonexistent/cc")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "hpcembed is built without native passes" in output
    with zipfile.ZipFile(wheel) as archive:
        assert LIBRARY not in archive.namelist()
