"""Problems of the benchmark: independence of the number of ranks, spectra, selection, files."""

from __future__ import annotations

import numpy as np
import pytest
from petsc4py import PETSc
from scipy.io import mmwrite
from scipy.sparse import csr_matrix

from miramns.bench import methods
from miramns.bench.harness.methods import select_by_name
from miramns.bench.harness.root_rank import BenchError
from miramns.bench.problems import catalogue
from miramns.bench.problems.matrix_files import matrix_files

mpi = pytest.mark.mpi

SMALL = (
    "laplacian-1d:n=31",
    "laplacian-2d:nx=7,ny=6",
    "laplacian-3d:nx=5,ny=4,nz=3",
    "random-graph:n=90,degree=6",
    "block-graph:n=121,blocks=4",
    "power-law-graph:n=100,degree=5",
    "random-walk:side=9",
    "spiked:n=64,spikes=5",
    "power-law:n=50,decay=0.5",
    "clustered:n=70",
    "multiple:n=60",
    "sparse-covariance:rows=80,columns=40,per_row=5",
)


def whole(A: PETSc.Mat, comm) -> np.ndarray:
    """Return the operator as an array on every rank, column by column."""
    x, y = A.createVecs()
    first, last = x.getOwnershipRange()
    columns = []
    for j in range(A.getSize()[1]):
        x.setArray((np.arange(first, last) == j).astype(float))
        A.mult(x, y)
        columns.append(np.concatenate(comm.allgather(y.getArray().copy())))
    x.destroy()
    y.destroy()
    return np.column_stack(columns)


def built(text: str, comm) -> np.ndarray:
    A = catalogue.generated(text).build(comm)
    M = whole(A, comm)
    A.destroy()
    return M


@mpi
@pytest.mark.parametrize("text", SMALL)
def test_generators_do_not_depend_on_the_number_of_ranks(comm, text):
    from mpi4py import MPI

    M = built(text, comm)
    np.testing.assert_allclose(M, built(text, MPI.COMM_SELF), atol=1e-13 * np.abs(M).max())
    problem = catalogue.generated(text)
    assert str(len(M)) in problem.name or "x" in problem.name or problem.group == "graph"
    if problem.hermitian:
        np.testing.assert_allclose(M, M.T, atol=1e-13 * np.abs(M).max())
        values = np.linalg.eigvalsh(M)
        if problem.definite:
            assert values[0] > -1e-12 * values[-1]
        if problem.eigenvalues is not None:
            known = np.sort(problem.eigenvalues())
            np.testing.assert_allclose(values, known, atol=1e-12 * values[-1])
    else:
        np.testing.assert_allclose(M.sum(axis=0), 1.0)  # a transposed transition matrix
        values = np.linalg.eigvals(M)
        np.testing.assert_allclose(np.sort(values.real)[[0, -1]], [-1.0, 1.0])


@mpi
@pytest.mark.parametrize("name", ["random-graph", "block-graph", "power-law-graph", "spiked"])
def test_the_seed_changes_the_problem(comm, name):
    first, again, other = (built(f"{name}:n=80,seed={seed}", comm) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


@mpi
def test_graphs_are_simple_and_have_the_degree_asked_for(comm):
    for text, degree in (
        ("random-graph:n=400,degree=8", 8.0),
        ("block-graph:n=400,blocks=4,inside=8,outside=2", 10.0),
        ("power-law-graph:n=400,degree=6", 6.0),
    ):
        M = built(text, comm)
        assert set(np.unique(M)) == {0.0, 1.0}
        assert not np.diag(M).any()
        # repeated edges and loops are dropped, more of them where the degrees differ
        assert 0.75 * degree < M.sum() / len(M) <= degree
    M = built("block-graph:n=400,blocks=4,inside=8,outside=2", comm)
    block = np.arange(400) % 4
    share = M[block[:, None] == block].sum() / M.sum()
    assert 0.75 < share < 0.95  # 0.8 inside, and a quarter of the rest by chance


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "problem 'nothing' is not one of"),
        ("random-graph:m=3", "'m' is not one of n, degree, seed"),
        ("random-graph:n=x", "n='x' is not of type int"),
        ("random-graph:n=0", "need n > 0"),
        ("random-graph:degree=nan", "need degree > 0"),
        ("random-walk:side=1", "need side >= 2"),
        ("power-law-graph:exponent=2", "need exponent > 2"),
        ("block-graph:n=10,blocks=6", "need blocks <= n / 2"),
    ],
)
def test_unknown_problems_are_refused(text, message):
    with pytest.raises(BenchError, match=message):
        catalogue.select([text])


def test_selection_of_problems_and_methods():
    assert [one.group for one in catalogue.select(["laplacian-*", "laplacian-1d"])] == [
        "Laplacian 1-D", "Laplacian 2-D", "Laplacian 3-D",
    ]  # fmt: skip
    assert len(catalogue.select(["quick"])) == len(catalogue.PRESETS["quick"])
    assert len(catalogue.select(["usual", "big"])) == len(catalogue.PRESETS["usual"]) + len(
        catalogue.PRESETS["big"]
    )
    names = [one.name for one in select_by_name(methods.available(), ["ks", "miramns"])]
    assert names == ["miramns", "ks"]
    everything = [one.name for one in methods.available()]
    assert len(set(everything)) == len(everything)
    with pytest.raises(BenchError, match="method 'nothing' is not one of miramns"):
        select_by_name(methods.available(), ["nothing"])


@mpi
def test_matrices_from_files(comm, shared_tmp):
    rng = np.random.default_rng(0)
    general = np.where(rng.random((13, 13)) < 0.4, rng.standard_normal((13, 13)), 0.0)
    folder = shared_tmp / "matrices"
    if comm.rank == 0:
        folder.mkdir()
        mmwrite(folder / "general.mtx", csr_matrix(general))
        mmwrite(folder / "symmetric.mtx", csr_matrix(general + general.T), symmetry="symmetric")
        mmwrite(folder / "wide.mtx", csr_matrix(general[:5]))
        (folder / "broken.mtx").write_text("no matrix\n")
    comm.barrier()
    names = [path.name for path in matrix_files(comm, shared_tmp)]
    assert names == ["broken.mtx", "general.mtx", "symmetric.mtx", "wide.mtx"]
    for name, M in (("general", general), ("symmetric", general + general.T)):
        problem = catalogue.file_problem(comm, folder / f"{name}.mtx")
        assert problem.hermitian is (name == "symmetric")
        A = problem.build(comm)
        np.testing.assert_allclose(whole(A, comm), M, atol=1e-14)
        A.destroy()
    with pytest.raises(BenchError, match="need a square real matrix, got 5 x 13"):
        catalogue.file_problem(comm, folder / "wide.mtx")
    for path in (folder / "broken.mtx", folder / "absent.mtx"):
        with pytest.raises(BenchError, match="not a Matrix Market file"):
            catalogue.file_problem(comm, path)
    with pytest.raises(BenchError, match=r"no \.mtx"):
        matrix_files(comm, folder)
