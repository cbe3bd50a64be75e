"""Convergence of the components of a run, and of published eigenvectors.

    python benchmarks/published_subspaces.py RUN_FOLDER REFERENCE.mtx --data-dir DATA

Reads the data of the run again, forms its dense covariance with numpy in one process, and prints
for both sets of vectors the largest residual over the largest eigenvalue, the loss of
orthogonality, and the sine of the largest angle to LAPACK's subspace and to the other one. For the
published vectors it also prints the sine for each number k of leading vectors, which shows the k
up to which they span the dominant subspace. It may also be the folder of a study.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import safetensors.numpy
import scipy.linalg
from mpi4py import MPI

from hpcembed.data.reading import read_dataset
from hpcembed.data.tables.matrix_market import read_matrix
from hpcembed.jobs.configuration import load_job
from hpcembed.jobs.study.settings import load_study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of `hpcembed run` or `hpcembed study`")
    parser.add_argument("reference", type=Path, help="published eigenvectors, one per column")
    parser.add_argument("--data-dir", type=Path, required=True)
    arguments = parser.parse_args()

    C = covariance(arguments.run, arguments.data_dir)
    V = safetensors.numpy.load_file(arguments.run / "projection.safetensors")["components"].T
    W = np.asarray(read_matrix(arguments.reference))
    if W.shape != V.shape:
        raise SystemExit(f"the run has vectors of shape {V.shape}, the reference {W.shape}")
    d, k = V.shape
    exact = scipy.linalg.eigh(C, subset_by_index=(d - k, d - 1))[1]
    print(f"{arguments.run}: {k} eigenvectors of {d} features")
    for name, X in (("run", V), ("published", W)):
        theta = np.sum(X * (C @ X), axis=0) / np.sum(X * X, axis=0)
        residual = np.linalg.norm(C @ X - X * theta, axis=0).max() / np.abs(theta).max()
        loss = np.abs(X.T @ X - np.eye(k)).max()
        print(
            f"  {name:9}  largest residual {residual:.1e} of lambda_1, |X'X-I| {loss:.0e}, "
            f"sine of the largest angle to LAPACK {largest_sine(exact, X):.1e}"
        )
    print(f"  between both: sine of the largest angle {largest_sine(V, W):.2e}")
    sines = leading_sines(C, W)
    print(f"  published, leading k: {', '.join(f'{k} {s:.0e}' for k, s in sines.items())}")


def leading_sines(C: np.ndarray, W: np.ndarray) -> dict[int, float]:
    """Return for each k the sine of the angle of k columns of W to the dominant subspace of C."""
    d, k = W.shape
    exact = scipy.linalg.eigh(C, subset_by_index=(d - k, d - 1))[1][:, ::-1]
    return {i: largest_sine(exact[:, :i], W[:, :i]) for i in range(1, k + 1)}


def covariance(folder: Path, data_dir: Path) -> np.ndarray:
    """Return the covariance of the training rows of the folder of a run or a study."""
    if (folder / "study.toml").exists():
        config = load_study(folder / "study.toml").data
    else:
        config = load_job(folder / "job.toml").data
    data = read_dataset(config, data_dir, MPI.COMM_SELF)
    rows = (data.train.rows - data.scaling.shift) * data.scaling.factor
    rows -= rows.mean(axis=0)
    return rows.T @ rows / (len(rows) - 1)


def largest_sine(X: np.ndarray, Y: np.ndarray) -> float:
    """Return the sine of the largest angle between two column spaces; X is orthonormal."""
    Q, _ = np.linalg.qr(Y)
    return float(scipy.linalg.svdvals(Q - X @ (X.T @ Q))[0])


if __name__ == "__main__":
    main()
