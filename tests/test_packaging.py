"""Wheel and source distribution: compiled passes, numpy otherwise; the small installation."""

from __future__ import annotations

import shutil
import subprocess
import sys
import urllib.request
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from wheels import build_sdist, build_wheel

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


def test_the_source_distribution_builds_without_a_compiler(tree, tmp_path):
    archive = build_sdist(tree, tmp_path)
    shutil.unpack_archive(archive, tmp_path)
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    wheel, _ = build_wheel(unpacked, tmp_path, CC="/nonexistent/cc")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert {"hpcembed/cli.py", "miramns/solve.py", "hpcembed/py.typed"} <= set(names)
    assert "hpcembed/jobs/report/templates/model_card.md.j2" in names


def test_metadata_names_two_dependencies_and_all_extras(tree, tmp_path):
    wheel, _ = build_wheel(tree, tmp_path, CC="/nonexistent/cc")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith("/METADATA"))
        lines = archive.read(name).decode("utf-8").partition("\n\n")[0].splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist: ")]
    base = [line for line in required if "extra ==" not in line]
    assert sorted(line.split()[1].partition(">")[0] for line in base) == ["numpy", "safetensors"]
    assert {"Provides-Extra: train", "Provides-Extra: mpi", "Provides-Extra: all"} <= set(lines)


def has_network():
    try:
        with urllib.request.urlopen("https://pypi.org/simple/safetensors/", timeout=5):
            return True
    except OSError:
        return False


def test_a_clean_environment_has_the_small_installation(tree, tmp_path):
    if not has_network():
        pytest.skip("no network")
    wheel, _ = build_wheel(tree, tmp_path, CC="/nonexistent/cc")
    venv.create(tmp_path / "environment", with_pip=True)
    python = tmp_path / "environment" / "bin" / "python"

    def run(*words):
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path,
                              env={"PATH": "/usr/bin:/bin"})  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    status, _, errors = run(python, "-m", "pip", "install", "-q", str(wheel))
    assert status == 0, errors
    program = str(python.with_name("hpcembed"))
    status, shown, errors = run(program, "--version")
    assert (status, errors) == (0, "")
    assert shown.startswith("hpcembed ")
    status, _, errors = run(program, "run", "job.toml")
    assert status == 2
    assert 'pip install "hpcembed[train,mpi]"' in errors
    code = "import hpcembed, json, sys; hpcembed.load; print(hpcembed.__file__)"
    status, shown, errors = run(python, "-c", code)
    assert status == 0, errors
    assert str(tmp_path) in shown
