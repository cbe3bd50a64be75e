"""The same result on any number of ranks."""

import numpy as np
import pytest
from onnx import numpy_helper

from hpcembed.networks.low_rank.request import Request
from hpcembed.networks.onnx_compression import OnnxCompression, compress_onnx
from hpcembed.networks.onnx_compression.settings import OnnxSettings
from onnx_graphs import correlated_rows, mlp

pytestmark = pytest.mark.mpi

ROWS = correlated_rows(301, 20)


def share(comm, rows):
    n = len(rows)
    return rows[comm.rank * n // comm.size : (comm.rank + 1) * n // comm.size]


def weights(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def agrees(one, other):
    assert one.keys() == other.keys()
    for name in one:
        # Signs and bases of the two factors of a layer may differ; their products may not.
        assert one[name].shape == other[name].shape
    for kernel in [name for name in one if name.endswith("_kernel")]:
        layer = kernel.removesuffix("_kernel")
        if f"{layer}_expansion" in one:
            products = [w[kernel] @ w[f"{layer}_expansion"].T if w[kernel].shape[1] == (
                w[f"{layer}_expansion"].shape[1]) else w[kernel] @ w[f"{layer}_expansion"]
                for w in (one, other)]  # fmt: skip
            assert np.allclose(*products, atol=1e-9)
        assert np.allclose(one[f"{layer}_bias"], other[f"{layer}_bias"], atol=1e-9)


@pytest.mark.parametrize("fits", [True, False])
def test_moments_ranks_fits_and_losses(comm, fits):
    settings = OnnxSettings(metric="divergence", sequential=fits, batch_size=16)
    results = []
    for rows, group in ((ROWS, None), (share(comm, ROWS), comm)):
        compression = OnnxCompression(mlp(), rows, settings=settings, validation=rows, comm=group)
        results.append(compression.compress(Request(budget={"parameters": 0.5})))
    (one, alone), (other, together) = results
    assert together.ranks == alone.ranks
    assert together.samples == alone.samples == 301
    assert together.loss == pytest.approx(alone.loss, rel=1e-3)
    for a, b in zip(alone.layers, together.layers, strict=True):
        assert b.error_measured == pytest.approx(a.error_measured, rel=1e-6, nan_ok=True)
    agrees(weights(one), weights(other))


def test_a_file_is_shared_by_the_ranks(comm, tmp_path_factory):
    folder = comm.bcast(str(tmp_path_factory.mktemp("rows")) if comm.rank == 0 else None)
    path = f"{folder}/rows.npy"
    if comm.rank == 0:
        np.save(path, ROWS)
    comm.Barrier()
    _, report = compress_onnx(mlp(), path, ranks={"first": 3}, comm=comm)
    assert report.samples == 301


def test_ranks_without_rows(comm):
    rows = ROWS if comm.rank == 0 else ROWS[:0]
    _, report = compress_onnx(
        mlp(), rows, max_loss=0.1, validation=rows, metric="divergence", comm=comm
    )
    assert report.samples == 301
    assert report.loss <= 0.1
    sizes = comm.allgather(report.after.parameters)
    assert len(set(sizes)) == 1
