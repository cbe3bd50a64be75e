"""Eigenpairs of curvature matrices compared with LAPACK; on one and on several ranks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hpcembed.networks.curvature import (
    CurvatureProducts,
    SubspaceTracker,
    gradient_share,
    hessian_eigenpairs,
    subspace_overlap,
)
from hpcembed.networks.curvature.operator import CurvatureOperator
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError
from hpcembed.runtime.ranks import ownership_range

LOSS = functional.cross_entropy


def problem(n=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    labels = (rows[:, 0] > 0).long() + (rows[:, 1] > 0).long()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    return model, rows, labels


def dense(model, rows, labels, matrix="hessian"):
    """The matrix from products, which other tests compare with differentiation by torch."""
    products = CurvatureProducts(model, LOSS, rows, labels, matrix=matrix)
    return products.multiply(np.eye(products.n_parameters))


def dominant(A, which, k):
    values, vectors = np.linalg.eigh((A + A.T) / 2)
    order = np.argsort({"LM": -np.abs(values), "LA": -values, "SA": values}[which])[:k]
    return values[order], vectors[:, order]


@pytest.mark.parametrize(
    ("matrix", "which"),
    [("hessian", "LM"), ("hessian", "LA"), ("hessian", "SA"), ("gauss_newton", "LM")],
)
def test_equal_to_lapack(matrix, which):
    model, rows, labels = problem()
    A = dense(model, rows, labels, matrix)
    values, vectors = dominant(A, which, 5)
    found = hessian_eigenpairs(model, LOSS, rows, labels, 5, matrix=matrix, which=which, tol=1e-10)
    np.testing.assert_allclose(found.eigenvalues, values, atol=1e-9 * abs(values).max())
    assert 1 - subspace_overlap(found.eigenvectors, vectors) < 1e-8
    residuals = A @ found.eigenvectors - found.eigenvectors * found.eigenvalues
    norms = np.linalg.norm(residuals, axis=0)
    np.testing.assert_allclose(found.residual_norms, norms, atol=1e-14)
    np.testing.assert_allclose(found.relative_residuals, norms / abs(values).max(), atol=1e-14)
    assert found.relative_residuals.max() <= 1e-10
    assert found.converged
    assert not found.multiplicity_checked
    assert (found.matrix, found.tol) == (matrix, 1e-10)
    assert found.n_certificate_products == 5
    assert found.n_products <= len(A) + 2
    assert found.seconds > 0
    assert "MIRAMns" in found.solver
    assert "5 pairs" in repr(found)


def test_pairs_agree_with_torch():
    model, rows, labels = problem()
    model = model.double()
    shapes = [one.shape for one in model.parameters()]

    def loss(theta):
        parts = theta.split([shape.numel() for shape in shapes])
        W, a, V, b = (part.view(shape) for part, shape in zip(parts, shapes, strict=True))
        return LOSS(torch.relu(rows @ W.T + a) @ V.T + b, labels)

    theta = torch.cat([one.detach().reshape(-1) for one in model.parameters()])
    H = torch.autograd.functional.hessian(loss, theta).numpy()
    values, vectors = dominant(H, "LM", 4)
    found = hessian_eigenpairs(model, LOSS, rows, labels, 4, tol=1e-11)
    np.testing.assert_allclose(found.eigenvalues, values, rtol=1e-8)
    cosines = np.abs(np.sum(found.eigenvectors * vectors, axis=0))
    np.testing.assert_allclose(cosines, 1, atol=1e-8)
    gradient = torch.autograd.functional.jacobian(loss, theta).numpy()
    np.testing.assert_allclose(found.gradient, gradient, atol=1e-14)
    assert found.loss == pytest.approx(float(loss(theta)), rel=1e-13)
    parts = found.vector(1)
    assert list(parts) == ["0.weight", "0.bias", "2.weight", "2.bias"] == list(found.names)
    assert [one.shape for one in parts.values()] == list(found.shapes)
    flat = np.concatenate([one.ravel() for one in parts.values()])
    assert np.array_equal(flat, found.eigenvectors[:, 1])


def test_few_products_on_a_longer_vector():
    # one factorisation without restarts: the least number of products of a Krylov method
    rows = np.random.default_rng(0).standard_normal((40, 100)) * np.geomspace(10, 0.01, 100)
    model = nn.Linear(100, 1)
    found = hessian_eigenpairs(model, functional.mse_loss, rows, np.zeros((40, 1)), 3)
    A = 2 * rows.T @ rows / 40
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(A)[:-4:-1], rtol=0.2)
    assert found.n_products <= 16
    restarted = hessian_eigenpairs(model, functional.mse_loss, rows, np.zeros((40, 1)), 3, ncv=6)
    np.testing.assert_allclose(restarted.eigenvalues, found.eigenvalues, rtol=1e-8)
    assert restarted.n_products > found.n_products


def test_single_precision_has_residuals_in_double_precision():
    model, rows, labels = problem()
    found = hessian_eigenpairs(model, LOSS, rows, labels, 3, dtype="float32")
    A = dense(model, rows, labels)
    residuals = A @ found.eigenvectors - found.eigenvectors * found.eigenvalues
    norms = np.linalg.norm(residuals, axis=0)
    np.testing.assert_allclose(found.residual_norms, norms, atol=1e-14)
    assert found.tol == 1e-4
    assert 1e-12 < found.relative_residuals.max() <= 1e-4
    with pytest.raises(ConvergenceError, match='use dtype="float64" or raise tol') as caught:
        hessian_eigenpairs(model, LOSS, rows, labels, 3, dtype="float32", tol=1e-13)
    assert not caught.value.result.converged


def test_unconverged_pairs_are_an_error_with_the_result():
    model, rows, labels = problem()
    with pytest.raises(ConvergenceError, match="missed the tolerance 1e-12") as caught:
        hessian_eigenpairs(model, LOSS, rows, labels, 5, tol=1e-12, ncv=8, max_it=1)
    assert len(caught.value.result.eigenvalues) == 5


def test_copies_of_multiple_eigenvalues_are_found_on_request():
    rows, labels = torch.eye(12) * 3, torch.zeros(12, 1)
    rows[4:] *= 0.5
    model = nn.Linear(12, 1, bias=False)
    found = hessian_eigenpairs(model, functional.mse_loss, rows, labels, 4, check_multiplicity=True)
    np.testing.assert_allclose(found.eigenvalues, [1.5] * 4)
    assert found.multiplicity_checked


def test_shares_and_overlaps():
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    g = Q[:, :3] @ np.array([1.0, 2.0, 2.0])
    assert gradient_share(g, Q[:, :2]) == pytest.approx(5 / 9)
    assert gradient_share(np.zeros(20), Q[:, :2]) == 0
    for scale in (1e-200, 1e200):
        assert gradient_share(scale * g, Q[:, :2]) == pytest.approx(5 / 9)
    assert np.isnan(gradient_share(np.nan * g, Q[:, :2]))
    turned = Q[:, :4] @ np.linalg.qr(rng.standard_normal((4, 4)))[0]
    assert subspace_overlap(Q[:, :4], turned) == pytest.approx(1)
    assert subspace_overlap(Q[:, :4], Q[:, 2:6]) == pytest.approx(0.5)
    with pytest.raises(ConfigError, match=r"shapes \(20, 4\) and \(20, 3\)"):
        subspace_overlap(Q[:, :4], Q[:, :3])


def test_the_tiny_subspace_of_a_training():
    model, rows, labels = problem(200)
    tracker = SubspaceTracker(LOSS, rows, labels, 3, tol=1e-8)
    assert tracker.spectrum is None
    optimiser = torch.optim.SGD(model.parameters(), lr=0.3)
    for epoch in range(3):
        record = tracker.measure(model, epoch)
        for _ in range(30):
            optimiser.zero_grad()
            LOSS(model(rows.float()), labels).backward()
            optimiser.step()
    first, second, last = tracker.records
    assert [one.epoch for one in tracker.records] == [0, 1, 2]
    assert (first.overlap, record) == (None, last)
    assert 0.1 < second.overlap < 1
    assert first.loss > second.loss > last.loss
    assert last.random_share == 3 / 83
    assert max(one.share for one in tracker.records) > 5 * last.random_share
    spectrum = tracker.spectrum
    assert last.share == gradient_share(spectrum.gradient, spectrum.eigenvectors)
    assert last.gradient_norm == pytest.approx(np.linalg.norm(spectrum.gradient))
    assert np.array_equal(last.eigenvalues, spectrum.eigenvalues)
    assert last.largest_residual <= 1e-8
    assert last.n_products == spectrum.n_products + 3


def test_errors():
    arguments = *problem()[:1], LOSS, *problem()[1:]
    with pytest.raises(ConfigError, match="k must be a positive integer"):
        hessian_eigenpairs(*arguments, 0)
    with pytest.raises(ConfigError, match="k = 84 exceeds the 83 parameters"):
        hessian_eigenpairs(*arguments, 84)
    with pytest.raises(ConfigError, match="which = 'SM'"):
        hessian_eigenpairs(*arguments, 2, which="SM")
    with pytest.raises(ConfigError, match="tol must be a number between 0 and 1"):
        hessian_eigenpairs(*arguments, 2, tol=2)
    with pytest.raises(ConfigError, match="max_it must be a positive integer, got 0"):
        hessian_eigenpairs(*arguments, 2, max_it=0)
    with pytest.raises(ConfigError, match="ncv"):
        hessian_eigenpairs(*arguments, 2, ncv=0)
    with pytest.raises(ConfigError, match="dtype = 'half'"):
        hessian_eigenpairs(*arguments, 2, dtype="half")
    with pytest.raises(InputError, match="there are no rows"):
        hessian_eigenpairs(problem()[0], LOSS, torch.zeros(0, 6), torch.zeros(0), 2)


@pytest.mark.mpi
@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
def test_the_same_on_all_numbers_of_ranks(comm, matrix):
    model, rows, labels = problem(61)
    mine = slice(*ownership_range(61, comm))
    if comm.size > 1:  # the last rank has no rows
        mine = slice(0, 0) if comm.rank == comm.size - 1 else mine
        mine = slice(mine.start, 61) if comm.rank == comm.size - 2 else mine
    settings = {"matrix": matrix, "tol": 1e-10}
    alone = hessian_eigenpairs(model, LOSS, rows, labels, 4, **settings)
    found = hessian_eigenpairs(model, LOSS, rows[mine], labels[mine], 4, comm=comm, **settings)
    np.testing.assert_allclose(found.eigenvalues, alone.eigenvalues, rtol=1e-9)
    np.testing.assert_allclose(found.eigenvectors, alone.eigenvectors, atol=1e-7)
    np.testing.assert_allclose(found.gradient, alone.gradient, atol=1e-13)
    assert found.loss == pytest.approx(alone.loss, rel=1e-13)
    assert found.eigenvectors.shape == (83, 4)
    assert len({one.tobytes() for one in comm.allgather(found.eigenvectors)}) == 1


@pytest.mark.mpi
def test_the_operator_counts_products_of_distributed_vectors(comm):
    model, rows, labels = problem(30)
    mine = slice(*ownership_range(30, comm))
    local = CurvatureProducts(model, LOSS, rows[mine], labels[mine])
    operator = CurvatureOperator(local, comm)
    V = np.random.default_rng(0).standard_normal((83, 3))
    first, last = ownership_range(83, comm)
    product = np.empty((last - first, 3))
    operator.mult_block(V[first:last], product)
    A = dense(model, rows, labels)
    np.testing.assert_allclose(product, (A @ V)[first:last], atol=1e-13)
    assert (operator.n_products, operator.n_rows, operator.layout) == (3, 30, (last - first, 83))


@pytest.mark.mpi
def test_errors_of_one_rank_are_raised_on_all(comm):
    model, rows, labels = problem()
    last = comm.rank == comm.size - 1
    with pytest.raises(InputError, match="is nan: check"):
        hessian_eigenpairs(model, LOSS, rows * (np.nan if last else 1), labels, 2, comm=comm)

    calls = []

    def fails(outputs, y):
        calls.append(1)
        if last and len(calls) > 14:
            raise RuntimeError("broken on purpose")
        return LOSS(outputs, y)

    with pytest.raises(InputError, match="broken on purpose"):
        hessian_eigenpairs(model, fails, rows, labels, 2, block_rows=20, comm=comm)
    if comm.size > 1:
        with torch.no_grad():
            model[0].bias += comm.rank
        with pytest.raises(ConfigError, match="parameters differs between ranks"):
            hessian_eigenpairs(model, LOSS, rows, labels, 2, comm=comm)
        with pytest.raises(ConfigError, match="k differs between ranks"):
            hessian_eigenpairs(model, LOSS, rows, labels, 2 + comm.rank, comm=comm)


@pytest.mark.mpi
def test_weights_of_classes_are_found_where_each_rank_has_one_class(comm):
    model, rows, _ = problem(60)
    labels = torch.arange(60) * comm.size // 60
    weights = 1.0 + torch.arange(max(comm.size, 3), dtype=torch.float64)
    model = nn.Linear(6, len(weights)).double()
    with torch.no_grad():
        for one in model.parameters():
            one.fill_(0.1).mul_(torch.arange(one.numel()).view_as(one))
    mine = slice(*ownership_range(60, comm))

    def weighted(outputs, y):
        return LOSS(outputs, y, weight=weights.to(outputs.dtype))

    arguments = model, weighted, rows[mine], labels[mine], 2
    if comm.size > 1:
        with pytest.raises(InputError, match="a loss that is a mean over rows without weights"):
            hessian_eigenpairs(*arguments, comm=comm)
    else:  # one class has no weight
        assert hessian_eigenpairs(*arguments, comm=comm).converged
