"""Codes with bits by variance: quantisers, allocation, packing, neighbours, files and ranks."""

import itertools
import pickle

import numpy as np
import pytest

from hpcembed import open_rows
from hpcembed.networks.retrieval import (
    fit_coder,
    fit_reduction,
    nearest,
    recall,
    retrieval_table,
    row_blocks,
)
from hpcembed.networks.retrieval.quantisers import (
    Histograms,
    allocate_bits,
    fitted_levels,
    normal_levels,
)
from hpcembed.runtime.errors import ConfigError, InputError


@pytest.fixture(scope="module")
def embeddings():
    """Rows in clusters, of decaying variance and a mean that is not zero."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 48))
    rows = centres[rng.integers(0, 40, 3000)] + rng.standard_normal((3000, 48))
    return (rows * 0.95 ** np.arange(48) + 0.3).astype(np.float32)


# J. Max, Quantizing for minimum distortion (1960), table I: errors for 2, 4, 8, 16 and 32 levels
@pytest.mark.parametrize(
    ("bits", "error"), [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497), (5, 0.002499)]
)
def test_errors_for_normal_numbers_are_the_published_ones(bits, error):
    levels, found = normal_levels(bits)
    assert found == pytest.approx(error, rel=3e-3)  # printed with few digits
    np.testing.assert_allclose(levels, -levels[::-1], atol=1e-8)
    assert (np.diff(levels) > 0).all()


def test_eight_bits_have_the_error_of_the_limit_of_many_levels():
    assert normal_levels(8)[1] == pytest.approx(np.sqrt(3) * np.pi / 2 * 4.0**-8, rel=0.03)


@pytest.mark.parametrize("weights", [np.ones(4), np.array([0.1, 1.0, 3.0, 50.0])])
@pytest.mark.parametrize("total", [1, 4, 7, 12])
def test_no_other_allocation_has_a_smaller_error(total, weights):
    variances = np.array([5.0, 1.3, 1.0, 0.02])
    errors = [1.0, *(normal_levels(bits)[1] for bits in range(1, 9))]

    def error(bits):
        return sum(w * v * errors[b] for w, v, b in zip(weights, variances, bits, strict=True))

    found = allocate_bits(variances, total, weights)
    assert found.sum() == total
    every = (one for one in itertools.product(range(9), repeat=4) if sum(one) == total)
    assert error(found) == pytest.approx(min(map(error, every)), rel=1e-12)


def test_a_coordinate_has_eight_bits_at_most_and_none_without_variance():
    assert allocate_bits(np.array([1.0, 1e-30, 0.0]), 30).tolist() == [8, 8, 0]


def test_levels_are_the_means_of_their_numbers(embeddings):
    numbers = np.asarray(embeddings[:, :1], dtype=np.float64) ** 3  # not normal
    numbers -= numbers.mean()
    histograms = Histograms(numbers.std(axis=0))
    histograms.add(numbers[:1000])
    histograms.add(numbers[1000:])
    start = normal_levels(3)[0] * numbers.std()
    levels, error = fitted_levels(histograms.totals[:, 0], start)
    owner = np.abs(numbers - levels).argmin(axis=1)
    means = [numbers[owner == i].mean() for i in range(8)]
    np.testing.assert_allclose(levels, means, atol=0.01 * numbers.std())
    measured = ((numbers[:, 0] - levels[owner]) ** 2).sum()
    assert error == pytest.approx(measured, rel=1e-3)
    assert measured < 0.5 * (np.abs(numbers - start).min(axis=1) ** 2).sum()


def test_codes_hold_the_nearest_levels_and_the_stated_loss(embeddings):
    coder = fit_coder(embeddings, 13)
    codes = coder.codes(embeddings)
    assert (codes.dtype, codes.shape) == (np.uint8, (3000, 13))
    assert coder.bytes_per_row == 13
    coordinates = (embeddings - coder.mean) @ coder.components.T
    stored = np.stack(
        [
            levels[np.abs(coordinates[:, j, None] - levels).argmin(axis=1)]
            for j, levels in enumerate(coder.levels)
        ],
        axis=1,
    )
    decoded = stored + coder.components @ coder.mean
    decoded /= np.linalg.norm(decoded, axis=1, keepdims=True)
    np.testing.assert_allclose(coder.decode(codes), decoded, atol=1e-6)
    rest = ((embeddings - coder.mean) ** 2).sum() - (coordinates**2).sum()
    lost = ((coordinates - stored) ** 2).sum() + rest
    assert coder.lost == pytest.approx(lost / ((embeddings - coder.mean) ** 2).sum(), rel=1e-2)
    covariance = np.cov(embeddings.astype(np.float64), rowvar=False)
    values = np.einsum("kd,de,ke->k", coder.components, covariance, coder.components)
    missing = coder.components @ covariance - values[:, None] * coder.components
    assert coder.residual_norms.shape == coder.bits.shape
    assert (coder.residual_norms < 1e-5 * values[0]).all()
    np.testing.assert_allclose(np.linalg.norm(missing, axis=1), 0.0, atol=1e-5 * values[0])
    assert f"48 numbers -> 13 bytes, up to {coder.bits.max()} bits" in repr(coder)


def test_bits_keep_more_neighbours_than_int8_of_as_many_bytes(embeddings):
    queries = embeddings[:200]
    exact = nearest(embeddings, queries, 10)
    shares = []
    for n_bytes in (6, 12, 24):
        coder = fit_coder(embeddings, n_bytes)
        shares.append(recall(exact, coder.search(coder.codes(embeddings), queries, 10)))
        reduction = fit_reduction(embeddings, n_bytes)
        cut = reduction.decode(reduction.codes(embeddings))
        assert shares[-1] > recall(exact, nearest(cut, reduction.transform(queries), 10)) + 0.05
    assert shares == sorted(shares)
    assert shares[-1] > 0.9


@pytest.mark.parametrize("scale", [2.0**200, 2.0**-200])
def test_a_scale_beyond_single_precision_changes_no_neighbour(embeddings, scale):
    rows = embeddings[:500].astype(np.float64)
    plain, scaled = fit_coder(rows, 12), fit_coder(scale * rows, 12)
    np.testing.assert_array_equal(scaled.bits, plain.bits)
    expected = plain.search(plain.codes(rows), rows[:20], 10)
    found = scaled.search(scaled.codes(scale * rows), scale * rows[:20], 10)
    assert recall(expected, found) > 0.99


def test_bits_minimise_the_error_of_products_with_queries_like_the_rows(embeddings):
    coder = fit_coder(embeddings, 12)
    moments = np.mean((embeddings @ coder.components.T) ** 2, axis=0)
    coordinates = (embeddings - coder.mean) @ coder.components.T
    gains = coordinates.var(axis=0) * moments * 4.0**-coder.bits
    # all coordinates would gain about as much by a further bit
    assert gains[coder.bits < 8].max() < 8 * gains.min()


def test_a_search_in_blocks_is_that_of_all_decoded_rows(embeddings, monkeypatch):
    coder = fit_coder(embeddings, 12)
    codes, queries = coder.codes(embeddings), embeddings[:50]
    whole = nearest(coder.decode(codes), coder.transform(queries), 10)
    monkeypatch.setattr(row_blocks, "_BLOCK_ROWS", 7)
    np.testing.assert_array_equal(coder.codes(embeddings), codes)
    assert recall(whole, coder.search(codes, queries, 10)) > 0.99
    with pytest.raises(InputError, match="20 neighbours are wanted of 5 rows"):
        coder.search(codes[:5], queries, 20)


def test_a_coder_of_other_rows_codes_new_rows(embeddings):
    coder = fit_coder(embeddings[:1500], 24)
    others = embeddings[1500:]
    found = coder.search(coder.codes(others), others[:100], 10)
    assert recall(nearest(others, others[:100], 10), found) > 0.85
    again = pickle.loads(pickle.dumps(coder))
    np.testing.assert_array_equal(again.codes(others), coder.codes(others))


def test_rows_of_a_file_give_the_coder_of_the_array(embeddings, tmp_path):
    np.save(tmp_path / "rows.npy", embeddings)
    streamed, whole = fit_coder(open_rows(tmp_path / "rows.npy"), 12), fit_coder(embeddings, 12)
    np.testing.assert_array_equal(streamed.bits, whole.bits)
    for one, other in zip(streamed.levels, whole.levels, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_few_rows_of_few_directions_have_few_coordinates():
    rows = np.outer(np.arange(1.0, 6.0), np.array([3.0, -1.0, 2.0, 0.0]))
    coder = fit_coder(rows, 3)
    assert coder.bits.tolist() == [8]
    codes = coder.codes(rows)
    assert codes.shape == (5, 1)
    assert len(np.unique(codes)) == 5


def test_bad_arguments_are_named(embeddings):
    with pytest.raises(InputError, match="n_bytes = 49 exceeds the 48 coordinates"):
        fit_coder(embeddings, 49)
    with pytest.raises(InputError, match="n_bytes = 9 exceeds the 8 coordinates"):
        fit_coder(embeddings, 9, k=8)
    with pytest.raises(InputError, match="k = 50 exceeds the 48 dimensions"):
        fit_coder(embeddings, 4, k=50)
    with pytest.raises(ConfigError, match="n_bytes must be a positive integer"):
        fit_coder(embeddings, 0)
    with pytest.raises(InputError, match="all embeddings are equal"):
        fit_coder(np.ones((20, 4)), 2)
    coder = fit_coder(embeddings, 6)
    with pytest.raises(InputError, match=r"codes of shape \(5, 7\) and type uint8"):
        coder.decode(np.zeros((5, 7), np.uint8))
    with pytest.raises(InputError, match=r"shape \(n, 48\) are needed, not \(2, 3\)"):
        coder.codes(np.ones((2, 3)))
    bad = embeddings[:3].copy()
    bad[1, 4] = np.nan
    with pytest.raises(InputError, match=r"embedding 1 \(counted from 0\) is not finite"):
        coder.codes(bad)


def test_the_table_has_records_of_coders(embeddings):
    table = retrieval_table(embeddings, [12], storages=["int8"], n_bytes=[12], n_queries=100)
    cut, coded = table.records
    assert (coded.storage, coded.bytes_per_row) == ("bits", 12)
    assert coded.k > 12
    assert coded.recall > cut.recall
    assert (coded.on_frontier, cut.on_frontier) == (True, False)
    assert f"| {coded.k} | bits | 12 |" in table.markdown()
    with pytest.raises(ConfigError, match="n_bytes = 12 is no list"):
        retrieval_table(embeddings, [12], n_bytes=12)


@pytest.mark.mpi
def test_ranks_fit_the_coder_of_all_rows(comm):
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((400, 12)) * 0.8 ** np.arange(12)
    mine = rows[400 * comm.rank // comm.size : 400 * (comm.rank + 1) // comm.size]
    coder, whole = fit_coder(mine, 4, comm=comm), fit_coder(rows, 4)
    np.testing.assert_array_equal(coder.bits, whole.bits)
    assert coder.lost == pytest.approx(whole.lost, rel=1e-6)
    same = comm.allgather([levels.tobytes() for levels in coder.levels])
    assert all(one == same[0] for one in same)
    with pytest.raises(InputError, match="n_bytes = 13 exceeds"):
        fit_coder(mine, 13, comm=comm)
