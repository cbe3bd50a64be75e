"""Problems: losses, gradients and products against their definitions."""

import math

import numpy as np
import pytest
import scipy.sparse

from hpcembed.networks.deep_linear import Completion, Factorisation, Sensing, Truth
from hpcembed.networks.deep_linear.completion import entries_of_product
from hpcembed.networks.deep_linear.low_rank_norms import difference_norm
from hpcembed.networks.deep_linear.synthetic import (
    completion_of,
    published_target,
    random_table,
    sensing_of,
)
from hpcembed.runtime.errors import ConfigError, InputError

TARGET = np.random.default_rng(3).standard_normal((6, 5))
SEEN = np.random.default_rng(4).random((6, 5)) < 0.5
MATRICES = np.random.default_rng(5).standard_normal((9, 6, 5))


def completion(storage):
    table = scipy.sparse.coo_array((TARGET[SEEN], np.nonzero(SEEN)), shape=TARGET.shape)
    return Completion(table, storage=storage)


PROBLEMS = {
    "factorisation": (lambda: Factorisation(TARGET), lambda X: 0.5 * ((X - TARGET) ** 2).mean()),
    "dense": (lambda: completion("dense"), lambda X: 0.5 * ((X - TARGET)[SEEN] ** 2).mean()),
    "sparse": (lambda: completion("sparse"), lambda X: 0.5 * ((X - TARGET)[SEEN] ** 2).mean()),
    "sensing": (
        lambda: Sensing(MATRICES, np.einsum("kij,ij->k", MATRICES, TARGET)),
        lambda X: 0.5 * (np.einsum("kij,ij->k", MATRICES, X - TARGET) ** 2).sum(),
    ),
}


@pytest.fixture(params=PROBLEMS)
def case(request):
    make, loss = PROBLEMS[request.param]
    return make(), loss


def test_loss_and_gradient_are_those_of_the_definition(case):
    problem, loss = case
    X = np.random.default_rng(0).standard_normal(problem.shape)
    found, gradient = problem.loss_and_gradient(X)
    assert found == pytest.approx(loss(X), rel=1e-12)
    for i, j in ((0, 0), (3, 2), (5, 4)):
        E = np.zeros_like(X)
        E[i, j] = 1e-5
        assert gradient[i, j] == pytest.approx((loss(X + E) - loss(X - E)) / 2e-5, abs=1e-8)


def test_products_are_those_of_the_gradient(case):
    problem, loss = case
    rng = np.random.default_rng(1)
    left, right = rng.standard_normal((6, 2)), rng.standard_normal((5, 2))
    found, left_product, right_product = problem.loss_and_products(left, right)
    _, G = problem.loss_and_gradient(left @ right.T)
    assert found == pytest.approx(loss(left @ right.T), rel=1e-12)
    np.testing.assert_allclose(left_product, G @ right, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(right_product, G.T @ left, rtol=1e-12, atol=1e-14)


def test_adjoint_is_that_of_the_measurements(case):
    problem, _ = case
    rng = np.random.default_rng(2)
    X = rng.standard_normal(problem.shape)
    measured = problem.measure_matrix(X)
    y = problem.measure_matrix(rng.standard_normal(problem.shape))
    assert problem.inner(measured, y) == pytest.approx(np.vdot(X, problem.adjoint(y)), rel=1e-12)
    products = problem.adjoint_products(y, X, np.eye(5))
    np.testing.assert_allclose(products[0], problem.adjoint(y), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(problem.measure(X, np.eye(5)), measured, rtol=1e-12, atol=1e-13)
    surrogate = problem.surrogate(y)
    dense = surrogate.toarray() if scipy.sparse.issparse(surrogate) else surrogate
    np.testing.assert_allclose(dense, problem.surrogate_factor * problem.adjoint(y), rtol=1e-12)


def test_surrogates_estimate_the_matrix():
    truth = published_target(40, 2)
    X = truth.left @ truth.right.T
    surrogates = [completion_of(truth, 0.4, seed).surrogate(None or completion_of(
        truth, 0.4, seed).targets) for seed in range(60)]  # fmt: skip
    assert np.linalg.norm(np.mean(surrogates, axis=0) - X) < 0.25 * np.linalg.norm(X)
    problem = sensing_of(truth, 6000)
    estimate = problem.surrogate(problem.targets)
    assert np.vdot(estimate, X) / np.vdot(X, X) == pytest.approx(1, abs=0.1)


def test_attributes():
    problem = completion("sparse")
    assert (problem.name, problem.shape, problem.storage) == ("completion", (6, 5), "sparse")
    assert problem.share == pytest.approx(SEEN.mean())
    assert problem.surrogate_factor == pytest.approx(1 / SEEN.mean())
    assert problem.n_measurements == SEEN.sum() == problem.rows.nnz
    assert problem.loss_factor == pytest.approx(1 / SEEN.sum())
    assert problem.row_range == (0, 6)
    np.testing.assert_array_equal(problem.row_counts, SEEN.sum(axis=1))
    np.testing.assert_array_equal(problem.column_counts, SEEN.sum(axis=0))
    assert problem.truth is None
    assert math.isnan(problem.recovery_error(np.ones((6, 1)), np.ones((5, 1))))
    sensing = sensing_of(published_target(6, 1), 9)
    assert (sensing.name, sensing.loss_factor, sensing.n_measurements) == ("sensing", 1.0, 9)
    assert sensing.truth is not None
    assert Factorisation(TARGET).name == "factorisation"


def test_seen_zeros_are_entries():
    table = scipy.sparse.csr_array((np.array([0.0, 2.0]), np.array([1, 0]), np.array([0, 1, 2])))
    for storage in ("dense", "sparse"):
        problem = Completion(table, storage=storage)
        assert problem.n_measurements == 2
        assert problem.loss_and_gradient(np.ones((2, 2)))[0] == pytest.approx(0.5)


def test_recovery_error_is_accurate_far_below_rounding_of_squares():
    truth = published_target(50, 3)
    problem = Factorisation(truth.left @ truth.right.T)
    assert problem.recovery_error(truth.left, truth.right) < 1e-14
    nearly = truth.left * (1 + 1e-11)
    assert problem.recovery_error(nearly, truth.right) == pytest.approx(1e-11, rel=1e-2)
    error = difference_norm(problem.comm, nearly, truth.right, truth.left, truth.right)
    assert error == pytest.approx(1e-11 * np.linalg.norm(truth.left), rel=1e-2)


def test_entries_of_product_in_many_blocks(monkeypatch):
    monkeypatch.setattr("hpcembed.networks.deep_linear.completion._BLOCK_NUMBERS", 7)
    table = scipy.sparse.random_array((30, 20), density=0.2, rng=np.random.default_rng(0)).tocsr()
    rng = np.random.default_rng(1)
    left, right = rng.standard_normal((30, 3)), rng.standard_normal((20, 3))
    found = entries_of_product(table.indptr, table.indices, left, right)
    expected = (left @ right.T)[table.tocoo().row, table.tocoo().col]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_published_targets():
    d, rank = 40, 4
    s = np.linalg.svd(np.random.default_rng(5).standard_normal((d, d)), compute_uv=False)
    spread = published_target(d, rank, 5)
    found = np.linalg.svd(spread.left @ spread.right.T, compute_uv=False)[:rank]
    np.testing.assert_allclose(found, s[[0, 5, 10, 15]], rtol=1e-12)
    dominant = published_target(d, rank, 5, spread=False)
    found = np.linalg.svd(dominant.left @ dominant.right.T, compute_uv=False)[:rank]
    np.testing.assert_allclose(found, s[:rank], rtol=1e-12)
    conditioned = published_target(d, rank, 5, condition=100)
    found = np.linalg.svd(conditioned.left @ conditioned.right.T, compute_uv=False)[:rank]
    assert found[0] / found[-1] == pytest.approx(100)


def test_truth_of_a_matrix():
    truth = Truth.of(np.outer([1.0, 2.0], [3.0, 4.0, 5.0]))
    assert truth.left.shape == (2, 1)
    np.testing.assert_allclose(truth.left @ truth.right.T, np.outer([1, 2], [3, 4, 5]))


def test_problems_and_truths_print_one_line():
    truth = published_target(24, 2, seed=1)
    assert repr(truth) == "<Truth: 24 x 24, rank 2>"
    problem = Factorisation(np.ones((3, 2)))
    assert repr(problem) == "<Factorisation: 3 x 2, 6 measurements>"
    assert repr(completion("sparse")).startswith("<Completion: 6 x 5, ")


def test_random_tables():
    problem, held_out = random_table((60, 50), 3, 10, held_out_per_row=4, seed=1)
    X = problem.truth.left @ problem.truth.right.T
    coo = problem.rows.tocoo()
    np.testing.assert_allclose(coo.data, X[coo.row, coo.col])
    other = held_out.tocoo()
    np.testing.assert_allclose(other.data, X[other.row, other.col])
    seen = set(zip(coo.row.tolist(), coo.col.tolist(), strict=True))
    assert seen.isdisjoint(zip(other.row.tolist(), other.col.tolist(), strict=True))
    assert 100 < held_out.nnz <= 240
    assert abs(X.std() - math.sqrt(3)) < 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Factorisation(np.ones(3)), r"target of shape \(3,\)"),
        (lambda: Factorisation([[1.0, np.nan]]), r"target: entry \(0, 1\) is not finite"),
        (lambda: Sensing(MATRICES, np.ones(3)), "3 measured values for 9 matrices"),
        (lambda: Sensing(0 * MATRICES, np.ones(9)), "nothing is measured"),
        (lambda: Completion(np.ones((2, 2))), "give a sparse array"),
        (lambda: Completion(scipy.sparse.csr_array((3, 3))), "nothing can be completed"),
        (
            lambda: Completion(scipy.sparse.coo_array(([1.0, 2.0], ([0, 0], [1, 1])), (2, 2))),
            "1 cell.* given twice",
        ),
        (
            lambda: Completion(scipy.sparse.coo_array(([1.0, np.inf], ([0, 1], [1, 0])), (2, 2))),
            "row 1, column 0: inf is not finite",
        ),
    ],
)
def test_bad_problems(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_bad_generators():
    with pytest.raises(ConfigError, match="exceeds half"):
        published_target(10, 6)
    with pytest.raises(ConfigError, match="share must lie"):
        completion_of(published_target(10, 2), 1.5)
