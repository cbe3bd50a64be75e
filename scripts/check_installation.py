"""Build wheel and source distribution, install each extra into a clean environment, and time it.

Usage: python check_installation.py [EXTRA...]

EXTRA is a name of ``[project.optional-dependencies]``, several joined by commas, or ``base``
(default: each of them, and mpi with train). Needs a network. In every environment ``--version``
and a prediction must work, and the packages of the extra must be importable. With train and mpi, a
job must run. Prints a table of seconds and sizes; exits with 1 if an installation fails.

The bindings of the extra mpi are those of Debian's packages: pip would build them. These
environments see the packages of the system, and only the files that pip adds are counted. Without
Debian's packages they are skipped.

    TORCH   requirement of PyTorch (default: torch==2.13.0)
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = (
    *("base", "images", "completion", "onnx", "retrieval", "map", "bench", "train", "all"),
    *("mpi", "train,mpi", "all,mpi"),
)
#: What Debian's bindings need, which were built with numpy 1; the second one with train alone.
OVER_DEBIAN = ("numpy<2", "pyarrow<26")
#: A job without files.
JOB = """
[data]
format = "digits"
[classifier]
hidden = [[16]]
[training]
epochs = 1
[output]
figures = false
"""

#: A model is written without ONNX, loaded, and used by the command line.
CHECK = """
import hashlib, importlib, json, pathlib, subprocess, sys
import numpy as np, safetensors.numpy
from hpcembed.runtime.optional import EXTRAS
folder = pathlib.Path("model")
folder.mkdir(exist_ok=True)
arrays = {"shift": np.zeros(2, np.float32), "stage0.weight": np.eye(2, dtype=np.float32)}
tensors = safetensors.numpy.save(arrays, {"format": "hpcembed model"})
(folder / "model.safetensors").write_bytes(tensors)
(folder / "model.json").write_text(json.dumps({
    "format": "hpcembed model", "version": 1, "name": "pets", "network": "linear", "n_features": 2,
    "class_names": ["cat", "dog"], "feature_names": ["a", "b"], "input_type": "float32",
    "stages": [{"bias": False, "relu": False}], "sha256": hashlib.sha256(tensors).hexdigest()}))
pathlib.Path("new.csv").write_text("b,a\\n1,3\\n2,0\\n")
import hpcembed
assert hpcembed.load("model").predict([[3.0, 1.0], [0.0, 2.0]]).tolist() == ["cat", "dog"]
for extra in sys.argv[1:]:
    names = [extra] if extra != "all" else [one for one in EXTRAS if one != "mpi"]
    for package in (package for name in names for package in EXTRAS[name]):
        importlib.import_module(package)
"""


def run(*words: object, cwd: Path | None = None) -> str:
    """Run a command outside of the source tree and return its output.

    Raises
    ------
    RuntimeError
        The command fails.
    """
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, cwd=cwd, env=kept
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise RuntimeError(f"{' '.join(map(str, words[1:5]))}: {' | '.join(lines[-3:])}")
    return done.stdout


def debian_bindings() -> list[str]:
    """Return the newest folders of Debian's petsc4py and slepc4py; empty without both."""
    found = []
    for kind in ("petsc", "slepc"):
        places = glob.glob(f"/usr/lib/{kind}dir/{kind}[0-9].*/*-real/lib/python3/dist-packages")
        found += sorted(places)[-1:]
    return found if len(found) == 2 else []


def environment(folder: Path, bindings: Sequence[str] = ()) -> Path:
    """Create a virtual environment, over the bindings of the system if given; return its Python."""
    venv.create(folder, with_pip=True, system_site_packages=bool(bindings))
    python = folder / "bin" / "python"
    if bindings:
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        links = Path(run(python, "-c", code).strip(), "bindings.pth")
        links.write_text("".join(f"{one}\n" for one in bindings))
    return python


def build(folder: Path) -> tuple[Path, Path]:
    """Build both distributions, check their metadata, and return their paths."""
    python = environment(folder / "build")
    run(python, "-m", "pip", "install", "-q", "build", "twine")
    run(python, "-m", "build", "--outdir", folder, ROOT)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    print(run(python, "-m", "twine", "check", "--strict", wheel, source).strip(), flush=True)
    return wheel, source


def size(folder: Path) -> float:
    """Return the size of the files of a folder in MiB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def install(distribution: Path, extras: str, folder: Path) -> tuple[float, float]:
    """Install extras into a new environment and use it; return seconds of pip, and MiB added."""
    chosen = [] if extras == "base" else extras.split(",")
    python = environment(folder, debian_bindings() if "mpi" in chosen else ())
    before, began = size(folder), time.perf_counter()
    words = [f"{distribution}[{extras}]" if chosen else str(distribution)]
    trains = bool({"train", "all"} & set(chosen))
    words += [os.environ.get("TORCH", "torch==2.13.0")] if trains else []
    if "mpi" in chosen:
        words += OVER_DEBIAN if trains else OVER_DEBIAN[:1]
    run(python, "-m", "pip", "install", "-q", *words)
    seconds = time.perf_counter() - began
    run(python, "-c", CHECK, *chosen, cwd=folder)
    program = python.with_name("hpcembed")
    assert run(program, "--version", cwd=folder).startswith("hpcembed ")
    lines = run(program, "predict", "model", "new.csv", cwd=folder).splitlines()
    assert [line.split(",")[1] for line in lines] == ["prediction", "cat", "dog"], lines
    if {"completion", "all"} & set(chosen):
        assert "hpcembed" in run(program, "completion", "bash", cwd=folder)
    if "mpi" in chosen and len(chosen) > 1:
        (folder / "job.toml").write_text(JOB)
        assert "certified: 20 of 20" in run(program, "run", "job.toml", "--out", "job", cwd=folder)
    return seconds, size(folder) - before


def main() -> None:
    """Build, install and print the table."""
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wheel, source = build(folder)
        print(f"{'installation':24} {'pip, s':>8} {'MiB':>8}", flush=True)
        tasks = [("base, from source", source, "base")]
        tasks += [(extras, wheel, extras) for extras in sys.argv[1:] or DEFAULT]
        for title, distribution, extras in tasks:
            if "mpi" in extras.split(",") and not debian_bindings():
                print(f"{title:24} not measured: no petsc4py and slepc4py of Debian", flush=True)
                continue
            try:
                seconds, added = install(distribution, extras, folder / "environment")
                print(f"{title:24} {seconds:8.1f} {added:8.0f}", flush=True)
            except (RuntimeError, AssertionError) as error:
                failed += 1
                print(f"{title:24} failed: {error}", flush=True)
            shutil.rmtree(folder / "environment", ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
