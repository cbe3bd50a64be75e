"""Largest eigenvalue of a sample, and the choice of the engine by it."""

import numpy as np
import pytest

from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding import PCA
from hpcembed.operators.cost import Rates
from hpcembed.operators.covariance import covariance_plan, flatness
from hpcembed.operators.covariance.flatness import leading_excess, pass_factor

pytestmark = pytest.mark.mpi


def share(comm, n):
    return slice(comm.rank * n // comm.size, (comm.rank + 1) * n // comm.size)


def matrix(comm, rows, **scaling):
    mine = rows[share(comm, len(rows))]
    return DataMatrix(mine, np.zeros(len(mine), int), comm, storage="shell", **scaling)


@pytest.mark.parametrize("d", [20, 100, 400, 3000])
def test_flat_spectra_are_near_the_edge(comm, d):
    rows = np.random.default_rng(0).normal(size=(3000, d)) * 5.0 + 7.0
    assert 0.85 < leading_excess(matrix(comm, rows)) < 1.1


@pytest.mark.parametrize(
    ("deviations", "expected"),
    [
        (1 / np.arange(1, 401), (1.0, "")),
        (np.arange(1, 401) ** -0.25, (2.0, "slowly decaying")),
        (np.r_[[5.0] * 3, np.ones(397)], (1.0, "")),
    ],
    ids=["decaying", "slow", "spikes"],
)
def test_leading_eigenvalues_stand_out(comm, deviations, expected):
    rows = np.random.default_rng(0).normal(size=(3000, 400)) * deviations
    assert leading_excess(matrix(comm, rows)) > 1.9
    assert pass_factor(matrix(comm, rows)) == expected


def test_mild_decay_is_flat(comm):
    rows = np.random.default_rng(0).normal(size=(3000, 400)) * np.linspace(1, 0.7, 400)
    assert pass_factor(matrix(comm, rows)) == (7.0, "flat")


def test_scaling_is_applied(comm):
    rows = np.random.default_rng(0).normal(size=(2000, 50)) * np.geomspace(1, 1e4, 50)
    scaled = matrix(comm, rows, factor=1 / rows.std(axis=0))
    assert pass_factor(scaled) == (7.0, "flat")
    assert pass_factor(matrix(comm, rows)) == (1.0, "")


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_rows(comm, n):
    rows = np.random.default_rng(0).normal(size=(n, 9))
    assert np.isfinite(leading_excess(matrix(comm, rows)))


def test_constant_rows(comm):
    assert leading_excess(matrix(comm, np.ones((9, 3)))) == 0.0


@pytest.fixture
def planned(monkeypatch):
    """Make blocks the engine of the plan, and squares that of flat spectra."""
    monkeypatch.setattr(Rates, "square", {4: 1e6, 8: 1e6})
    monkeypatch.setattr(flatness, "SLOW", ((1.4, 1e6, "flat"),))


def test_flat_spectra_take_the_square(comm, planned):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(900, 60)).astype(np.float32)
    decaying = noise * np.geomspace(1, 1e-4, 60, dtype=np.float32)
    assert PCA(3).fit(decaying[share(comm, 900)], comm=comm).plan_.engine == "block"
    flat = PCA(3).fit(noise[share(comm, 900)], comm=comm)
    assert flat.plan_.engine == "assembled"
    assert flat.plan_.reason == "fastest, for a flat spectrum"
    exact = np.linalg.eigvalsh(np.cov(noise.T.astype(float)))[::-1]
    np.testing.assert_allclose(flat.explained_variance_, exact[:3], rtol=1e-6)
    asked = PCA(3, engine="block").fit(noise[share(comm, 900)], comm=comm)
    assert (asked.plan_.engine, asked.plan_.reason) == ("block", "as requested")


def test_a_square_that_takes_too_long_is_no_alternative(comm, planned, monkeypatch):
    monkeypatch.setattr(flatness, "SLOW", ((1.4, 7.0, "flat"),))
    noise = np.random.default_rng(0).normal(size=(900, 60)).astype(np.float32)
    assert PCA(3).fit(noise[share(comm, 900)], comm=comm).plan_.engine == "block"


def test_passes_that_do_not_converge_give_way_to_the_square_once(comm, planned, monkeypatch):
    from hpcembed.embedding import _covariance

    monkeypatch.setattr(_covariance, "pass_factor", lambda X: (1.0, ""))
    monkeypatch.setattr(_covariance._CovarianceSearch, "_most_passes", lambda self: 2)
    rows = np.random.default_rng(0).normal(size=(900, 60)).astype(np.float32)
    found = PCA(3).fit(rows[share(comm, 900)], comm=comm)
    assert found.plan_.engine == "assembled"
    assert found.plan_.reason == "no convergence in 2 block passes"
    assert found.certified_
    exact = np.linalg.eigvalsh(np.cov(rows.T.astype(float)))[::-1]
    np.testing.assert_allclose(found.explained_variance_, exact[:3], rtol=1e-6)


def test_number_of_allowed_passes(comm, planned, monkeypatch):
    """The time of the other plan, and at least twice the expected passes."""
    from hpcembed.embedding import _covariance

    allowed = []
    original = _covariance._CovarianceSearch._most_passes

    def kept(self):
        allowed.append((original(self), self.plan, self.other))
        return allowed[-1][0]

    monkeypatch.setattr(_covariance._CovarianceSearch, "_most_passes", kept)
    rows = np.random.default_rng(0).normal(size=(900, 60)) * np.geomspace(1, 1e-4, 60)
    rows = rows.astype(np.float32)[share(comm, 900)]
    PCA(3).fit(rows, comm=comm)
    PCA(3, engine="block").fit(rows, comm=comm)
    (most, plan, other), (unlimited, _, none) = allowed
    expected = _covariance.COVARIANCE_BLOCKS.passes(3, plan.width)
    assert most == np.ceil(expected * max(2.0, other.cost.seconds / plan.cost.seconds))
    assert unlimited is None
    assert none is None


@pytest.mark.parametrize(("n", "d"), [(50_000, 3_000), (1_000, 20_000)])
def test_plan_of_flat_spectra_has_more_passes(n, d):
    from hpcembed.operators.cost import Machine, Shape

    shape, machine = Shape(n, 0, d, None, 4 * d, 4), Machine(1, 2, 2**40)
    for_decay, for_flat = (
        {
            cost.engine: cost.seconds
            for cost in covariance_plan.plan_covariance(
                shape, 10, machine, tol=1e-6, pass_factor=factor
            ).costs
        }
        for factor in (1.0, 7.0)
    )
    assert for_flat["block"] > 3 * for_decay["block"]
    assert for_flat["matrix_free"] > 3 * for_decay["matrix_free"]
    if n < d:
        assert for_flat["gram"] > 3 * for_decay["gram"]
        assert for_flat["gram"] < for_flat["block"]
