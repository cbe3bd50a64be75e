"""Eigenvectors of real data compared with published ones; skipped without the data sets."""

import json

import numpy as np
import pytest
import safetensors.numpy

from hpcembed.data.tables.matrix_market import read_matrix
from job_files import JOBS, WITHOUT_NETWORKS
from real_data import DATA

REFERENCES = {
    "mnist": ("mnist_eigen_50.mtx", 50, 0.0, 1e-5),
    "date_fruit": ("date_fruit_eigen_17.mtx", 17, 0.0, 1e-5),
    # Released as converged to 1e-8, but it is not: a negative case.
    "fetal_health": ("fetal_health_eigen_10.mtx", 10, 1e-2, 1e-1),
}


def published(name):
    if not DATA.is_dir():
        return []
    options = [*WITHOUT_NETWORKS, "--data-dir", DATA]
    return [["run", JOBS / f"{name}.toml", "--out", "out", *options]]


@pytest.mark.launch(published, ranks=2)
@pytest.mark.parametrize("name", REFERENCES)
def test_subspace_and_certificate(data_dir, launched, name):
    reference, k, low, high = REFERENCES[name]
    out = launched.folder / "out"
    assert launched.done.status == 0, launched.done.err
    embedding = json.loads((out / "run.json").read_text())["embedding"]
    assert embedding["n_components"] == k
    assert max(embedding["residual_norms"]) <= 1e-8
    assert embedding["orthogonality"] <= 1e-12
    assert embedding["reference"]["max_subspace_sin_angle"] <= 1e-6
    V = safetensors.numpy.load_file(out / "projection.safetensors")["components"].T
    Q, _ = np.linalg.qr(np.asarray(read_matrix(data_dir / "reference" / reference)))
    assert low <= np.linalg.norm(Q - V @ (V.T @ Q), 2) <= high
