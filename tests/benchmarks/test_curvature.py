"""The scripts on curvature and random subspaces run, and print a line for every case."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def write_mnist(folder):
    """Images of ten patterns with noise, in the format of MNIST."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 200, (10, 784))
    for name, count in (("train", 200), ("t10k", 100)):
        labels = rng.integers(0, 10, count)
        images = patterns[labels] + rng.integers(0, 55, (count, 784))
        header = b"".join(n.to_bytes(4, "big") for n in (2051, count, 28, 28))
        with gzip.open(folder / f"{name}-images-idx3-ubyte.gz", "wb") as file:
            file.write(header + images.astype(np.uint8).tobytes())
        header = b"".join(n.to_bytes(4, "big") for n in (2049, count))
        with gzip.open(folder / f"{name}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(header + labels.astype(np.uint8).tobytes())


@pytest.mark.launch
def test_products_and_shares(run_mpi, tmp_path):
    write_mnist(tmp_path / "mnist")
    words = ["--data-dir", str(tmp_path), "--data", "mnist", "--hidden", "4", "--rows", "150"]
    words += ["-k", "3", "--track", "1", "--out", str(tmp_path / "records.json")]
    done = run_mpi(0, str(FOLDER / "curvature.py"), *words, timeout=200)
    assert done.status == 0, done.err
    assert len(re.findall(r"^\| hpcembed, (?:hessian|gauss_newton) \| 0 \|", done.out, re.M)) == 2
    assert len(re.findall(r"^\| [01] \| [0-9.]+ \|", done.out, re.M)) == 2
    assert (tmp_path / "records.json").stat().st_size > 100
    done = run_mpi(0, str(FOLDER / "curvature.py"), *words, "--rows", "999", timeout=200)
    assert done.status != 0
    assert "200 rows, 999 are needed" in done.err


@pytest.mark.launch
def test_least_dimension_and_times(run_mpi, tmp_path):
    write_mnist(tmp_path / "mnist")
    script = str(FOLDER / "intrinsic_training.py")
    words = ["--data-dir", str(tmp_path), "--rows", "200", "--epochs", "3", "--grid", "5", "300"]
    done = run_mpi(0, script, "mnist", *words, "--learning-rate", "0.01", timeout=200)
    assert done.status == 0, done.err
    assert "199,210 parameters, 200 rows, 3 epochs, srht: least dimension" in done.out
    words = ["--parameters", "512", "--dimensions", "8", "600", "--repeats", "1"]
    done = run_mpi(0, script, "products", *words, timeout=200)
    assert done.status == 0, done.err
    assert len(re.findall(r"^\| 512 \|", done.out, re.M)) == 1
