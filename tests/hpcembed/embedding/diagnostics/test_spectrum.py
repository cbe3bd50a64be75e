"""Measures of a spectrum: against numpy, and bounds that contain the value."""

import tracemalloc

import numpy as np
import pytest

from hpcembed.embedding import PCA, TruncatedSVD
from hpcembed.embedding.diagnostics import Interval, spectrum_measures
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import ownership_range
from synthetic_data import planted_covariance

NAMES = ("entropy", "effective_rank", "participation_ratio", "stable_rank")


def by_numpy(values):
    values = np.asarray(values)
    shares = values[values > 0] / values.sum()
    entropy = -np.sum(shares * np.log(shares))
    return entropy, np.exp(entropy), 1 / np.sum(shares**2), 1 / shares.max()


def random_spectra():
    rng = np.random.default_rng(5)
    for d in (1, 2, 3, 7, 40):
        yield np.ones(d)
        yield 1.0 / np.arange(1, d + 1) ** 2
        yield 0.3 ** np.arange(d)
        for shape in (0.05, 0.5, 5.0):
            yield rng.gamma(shape, size=d) + 1e-300
        ties = rng.integers(0, 3, d).astype(float)
        ties[0] = 2.0
        yield ties
        yield np.concatenate([rng.random(-(-d // 2)), np.zeros(d // 2)])


@pytest.mark.parametrize("values", list(random_spectra()), ids=lambda values: f"d{len(values)}")
def test_whole_spectrum_and_bounds_that_contain_it(values):
    expected = by_numpy(values)
    whole = spectrum_measures(values)
    for name, value in zip(NAMES, expected, strict=True):
        found = getattr(whole, name)
        assert found.is_exact
        assert found.low == pytest.approx(value, rel=1e-10, abs=1e-10)
    assert (whole.n_known, whole.n_possible) == (len(values), len(values))
    ordered = np.sort(values)[::-1]
    before = None
    for k in range(1, len(values) + 1):
        part = spectrum_measures(ordered[:k], values.sum(), len(values))
        assert (part.n_known, part.n_possible) == (k, len(values))
        for name, value in zip(NAMES, expected, strict=True):
            found, slack = getattr(part, name), 1e-9 * value + 1e-9
            assert found.low - slack <= value <= found.high + slack, (name, k)
            if before is not None:  # more eigenvalues never widen an interval
                assert found.low >= getattr(before, name).low - slack
                assert found.high <= getattr(before, name).high + slack
        before = part
    assert before.entropy.high - before.entropy.low <= 1e-9


@pytest.mark.parametrize("rest", [0.0, 0.5, 2.0, 2.75, 6.0])
def test_both_bounds_are_attained(rest):
    known, m = [4.0, 2.0, 1.0], 6
    total = sum(known) + rest
    part = spectrum_measures(known, total, len(known) + m)
    equal = [*known, *[rest / m] * m]
    full, left = divmod(rest, 1.0)
    vertex = [*known, *[1.0] * int(full), left]
    for name, most, least in zip(NAMES, by_numpy(equal), by_numpy(vertex), strict=True):
        assert getattr(part, name).high == pytest.approx(most, rel=1e-12)
        assert getattr(part, name).low == pytest.approx(least, rel=1e-12)
    assert part.effective_rank.is_exact == (rest in (0.0, 6.0))


def test_order_and_negative_rounding_do_not_matter():
    found = spectrum_measures([1.0, -1e-17, 4.0])
    assert found == spectrum_measures([4.0, 1.0, 0.0])
    assert found.stable_rank == Interval(1.25, 1.25)
    assert 1.25 in found.stable_rank
    assert 1.3 not in found.stable_rank


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([0.0, 0.0],), "the rows do not vary"),
        (([],), "at least one finite number"),
        (([1.0, np.nan],), "at least one finite number"),
        (([2.0, 1.0], 2.5, 5), "add up to 3, more than the trace 2.5"),
        (([2.0, 1.0], 8.0, 5), "3 further eigenvalues of at most 1 cannot add up to .* 5"),
        (([2.0, 1.0], -1.0, 5), "a positive number"),
    ],
)
def test_contradictions(arguments, text):
    with pytest.raises(InputError, match=text):
        spectrum_measures(*arguments)
    with pytest.raises(ConfigError, match="rank_limit"):
        spectrum_measures([1.0], 1.0)


@pytest.mark.mpi
@pytest.mark.parametrize("method", [PCA, TruncatedSVD])
@pytest.mark.parametrize("shape", [(60, 9), (7, 9)])
def test_spectra_of_estimators(comm, method, shape):
    rows = planted_covariance(*shape, 0.7 ** np.arange(9.0), seed=3) + 0.5
    centred = rows - rows.mean(axis=0) if method is PCA else rows
    expected = by_numpy(np.linalg.svd(centred, compute_uv=False) ** 2)
    first, last = ownership_range(len(rows), comm)
    for k in (1, 4, min(shape)):
        spectrum = method(k).fit(rows[first:last], comm=comm).spectrum_
        assert spectrum.rank_limit == min(shape[0] - (method is PCA), 9)
        found = spectrum_measures(spectrum.values, spectrum.trace, spectrum.rank_limit)
        for name, value in zip(NAMES, expected, strict=True):
            interval = getattr(found, name)
            assert interval.low * (1 - 1e-9) <= value <= interval.high * (1 + 1e-9)
            if k == min(shape):
                assert interval.is_exact


def test_rounding_errors_of_the_ends_do_not_count():
    values = np.array([1.0, 1.1e-4, 3e-15])  # the rest of the trace has no correct digit
    part = spectrum_measures(values[:2], trace=values.sum(), rank_limit=3)
    for name, value in zip(NAMES, by_numpy(values), strict=True):
        assert value in getattr(part, name)
    assert 1.0 + 1e-9 not in Interval(0.5, 1.0)
    assert 0.5 - 1e-9 not in Interval(0.5, 1.0)


def test_memory_does_not_grow_with_the_rank():
    tracemalloc.start()
    found = spectrum_measures([4.0, 2.0], trace=8.0, rank_limit=10**8)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 10**6
    assert found.n_possible == 10**8
    assert found.participation_ratio.high == pytest.approx(64 / 20)


def test_values_that_are_no_spectrum():
    for wrong in (["a"], [1j], np.array([1.0, "a"], dtype=object)):
        with pytest.raises(InputError, match=r"eigenvalues of shape .*: give at least one"):
            spectrum_measures(wrong)
    with pytest.raises(InputError, match=r"eigenvalue -3: .* are not negative"):
        spectrum_measures([4.0, -3.0])
    with pytest.raises(InputError, match=r"and none above 1e\+300"):
        spectrum_measures([1.7e308, 1.7e308])
