"""Rival projections beside principal components: networks on the first rows of MNIST.

Usage: ``python benchmarks/projections.py --data-dir DATA [--rows 10000] [--work FOLDER]``. The
study is written to FOLDER/out; finished trials there are not trained again. Prints the tables of
``docs/explanations/projections.md``.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.jobs.study.command import run_study
from hpcembed.jobs.study.trials import RivalKind

STUDY = """
[data]
name = "mnist, {rows:,} rows"
format = "npz"
train = ["train.npz"]
test = ["test.npz"]
scaling = "divide"
divisor = 255.0

[study]
dimensions = {dimensions}
networks = [[64, 64]]
rivals = [{rivals}]
image_shape = [28, 28]
seeds = {seeds}
margin = 0.2
"""


def array(path: Path) -> NDArray[np.uint8]:
    """Return images as rows, or labels, from an IDX file."""
    with gzip.open(path) as file:
        content = file.read()
    is_image = "images" in path.name
    values = np.frombuffer(content, np.uint8, offset=16 if is_image else 8)
    return values.reshape(-1, 784) if is_image else values


def main() -> None:
    """Write the rows and the study, run it, and print its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with mnist/")
    parser.add_argument("--rows", type=int, default=10_000, help="training rows")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[20], help="values of k")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for name, prefix, rows in (("train", "train", arguments.rows), ("test", "t10k", None)):
            files = [
                arguments.data_dir / "mnist" / f"{prefix}-{kind}-ubyte.gz"
                for kind in ("images-idx3", "labels-idx1")
            ]
            images, labels = map(array, files)
            np.savez(work / f"{name}.npz", x=images[:rows], y=labels[:rows])
        rivals = ", ".join(f'"{name}"' for name in get_args(RivalKind))
        text = STUDY.format(
            rows=arguments.rows,
            dimensions=arguments.dimensions,
            rivals=rivals,
            seeds=arguments.seeds,
        )
        (work / "study.toml").write_text(text)
        run_study(work / "study.toml", [], None, work / "out", MPI.COMM_SELF)


if __name__ == "__main__":
    main()
