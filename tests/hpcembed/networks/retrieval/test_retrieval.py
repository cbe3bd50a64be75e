"""Reduced embeddings: coordinates, bytes, neighbours, faiss, and the layer of torch."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from hpcembed import open_rows
from hpcembed.data import row_stream
from hpcembed.networks.compression.reduction_layer import reduction_layer
from hpcembed.networks.retrieval import (
    EmbeddingReduction,
    fit_reduction,
    nearest,
    recall,
    write_faiss_index,
)
from hpcembed.networks.retrieval.faiss_index import faiss_index
from hpcembed.runtime.errors import ConfigError, InputError, OutputExistsError


@pytest.fixture(scope="module")
def embeddings():
    """Rows of length 1 in clusters, of decaying variance."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((30, 48))
    rows = centres[rng.integers(0, 30, 1200)] + 0.7 * rng.standard_normal((1200, 48))
    rows *= 0.9 ** np.arange(48)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_neighbours_are_those_of_scikit_learn(embeddings):
    found = nearest(embeddings, embeddings[:50], 10)
    peer = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(embeddings)
    assert recall(peer.kneighbors(embeddings[:50], return_distance=False), found) > 0.999
    assert (found[:, 0] == np.arange(50)).all()
    with pytest.raises(InputError, match="2000 neighbours are wanted of 1200 rows"):
        nearest(embeddings, embeddings, 2000)
    with pytest.raises(
        InputError, match=r"rows of shape \(1200, 48\) and queries of shape \(3, 40\)"
    ):
        nearest(embeddings, embeddings[:3, :40], 10)


def test_all_coordinates_keep_the_order_of_centred_cosines_and_fewer_keep_most(embeddings):
    whole = fit_reduction(embeddings, 48)
    centred = embeddings - embeddings.mean(axis=0)
    exact = nearest(centred, centred[:100], 10)
    full = whole.transform(embeddings)
    assert recall(exact, nearest(full, full[:100], 10)) > 0.999
    assert whole.captured == pytest.approx(1.0)
    recalls = []
    for k in (4, 12, 24):
        z = fit_reduction(embeddings, k).transform(embeddings)
        recalls.append(recall(exact, nearest(z, z[:100], 10)))
    assert recalls == sorted(recalls)
    assert recalls[-1] > 0.8


def test_bytes_are_within_half_a_step_and_keep_the_neighbours(embeddings):
    reduction = fit_reduction(embeddings, 24)
    z = reduction.transform(embeddings)
    codes = reduction.codes(embeddings)
    assert codes.dtype == np.int8
    assert np.abs(reduction.decode(codes) - z).max() <= 0.5 * reduction.steps.max() * (1 + 1e-5)
    assert np.abs(codes).max(axis=0).min() == 127
    exact = nearest(z, z[:100], 10)
    decoded = reduction.decode(codes)
    assert recall(exact, nearest(decoded, decoded[:100], 10)) > 0.95
    assert reduction.bytes_per_row == (96, 24)
    assert reduction.residual_norms.shape == (24,)


@pytest.mark.parametrize(("storage", "least"), [("float32", 0.999), ("int8", 0.95)])
def test_an_index_of_faiss_takes_whole_embeddings(embeddings, tmp_path, storage, least):
    faiss = pytest.importorskip("faiss")
    reduction = fit_reduction(embeddings, 24)
    path = write_faiss_index(reduction, embeddings, tmp_path / "index.faiss", storage)
    index = faiss.read_index(str(path))
    assert (index.d, index.ntotal) == (48, 1200)
    assert type(index).__name__ == "IndexPreTransform"
    _, found = index.search(embeddings[:100], 10)
    z = reduction.transform(embeddings)
    assert recall(nearest(z, z[:100], 10), found) > least
    assert faiss.downcast_index(index.index).sa_code_size() == {"float32": 96, "int8": 24}[storage]
    with pytest.raises(OutputExistsError):
        write_faiss_index(reduction, embeddings, path)
    assert faiss_index(reduction, embeddings[:5], "float32").ntotal == 5


def test_the_layer_gives_the_directions_of_the_reduction(embeddings):
    reduction = fit_reduction(embeddings, 8)
    layer = reduction_layer(reduction)
    with torch.no_grad():
        z = layer(torch.from_numpy(embeddings)).numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(z, reduction.transform(embeddings), atol=1e-5)


def test_embeddings_of_another_width_are_refused(embeddings):
    with pytest.raises(InputError, match=r"shape \(n, 48\) are needed, not \(1200, 40\)"):
        fit_reduction(embeddings, 8).transform(embeddings[:, :40])


def test_rows_of_a_file_give_the_reduction_of_the_array(embeddings, tmp_path):
    np.save(tmp_path / "rows.npy", embeddings)
    streamed = fit_reduction(open_rows(tmp_path / "rows.npy"), 12)
    whole = fit_reduction(embeddings, 12)
    np.testing.assert_allclose(streamed.components, whole.components, atol=1e-6)
    np.testing.assert_allclose(streamed.steps, whole.steps, rtol=1e-5)


def test_bad_arguments_are_named_as_the_caller_knows_them(embeddings, tmp_path):
    with pytest.raises(InputError, match="k = 300 exceeds the 48 dimensions of the embeddings"):
        fit_reduction(embeddings, 300)
    with pytest.raises(ConfigError, match=r"k must be a positive integer, got 0\.5"):
        fit_reduction(embeddings, 0.5)
    with pytest.raises(ConfigError, match="storage = 'int4' is not one of"):
        write_faiss_index(fit_reduction(embeddings, 8), embeddings, tmp_path / "i", "int4")


def test_a_reduction_prints_one_line(embeddings):
    reduction = fit_reduction(embeddings, 8)
    assert repr(reduction) == str(reduction)
    assert "48 -> 8 coordinates" in repr(reduction)
    assert f"{reduction.captured:.1%} of the variance" in repr(reduction)


@pytest.mark.parametrize("whiten", [False, True])
def test_rows_in_many_blocks_of_a_file_have_the_steps_of_the_array(
    embeddings, tmp_path, monkeypatch, whiten
):
    monkeypatch.setattr(row_stream, "BLOCK_BYTES", 4 * 100 * 48 * 8)
    np.save(tmp_path / "rows.npy", embeddings)
    rows = open_rows(tmp_path / "rows.npy")
    assert sum(1 for _ in rows.blocks()) >= 12
    streamed, whole = (fit_reduction(one, 12, whiten=whiten) for one in (rows, embeddings))
    np.testing.assert_allclose(streamed.steps, whole.steps, rtol=1e-5)
    largest = np.abs(whole.transform(embeddings)).max(axis=0)
    np.testing.assert_allclose(127 * whole.steps, largest, rtol=1e-6)


def test_whitened_coordinates_have_equal_variance(embeddings):
    plain, whitened = (fit_reduction(embeddings, 12, whiten=one) for one in (False, True))
    np.testing.assert_allclose(whitened.components, plain.components)
    projected = (embeddings - whitened.mean) @ whitened.projection.T
    np.testing.assert_allclose(projected.var(axis=0, ddof=1), 1.0, rtol=1e-4)
    unit = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(whitened.transform(embeddings), unit, atol=1e-6)
    np.testing.assert_array_equal(plain.scales, np.ones(12))
    assert "48 -> 12 whitened coordinates" in repr(whitened)


def test_an_index_of_faiss_and_the_layer_whiten(embeddings):
    pytest.importorskip("faiss")
    reduction = fit_reduction(embeddings, 12, whiten=True)
    z = reduction.transform(embeddings)
    _, found = faiss_index(reduction, embeddings, "float32").search(embeddings[:100], 10)
    assert recall(nearest(z, z[:100], 10), found) > 0.999
    with torch.no_grad():
        layer = reduction_layer(reduction)(torch.from_numpy(embeddings)).numpy()
    layer /= np.linalg.norm(layer, axis=1, keepdims=True)
    np.testing.assert_allclose(layer, z, atol=1e-5)


def test_coordinates_without_variance_are_not_whitened():
    rows = np.random.default_rng(0).standard_normal((50, 3)) @ np.eye(3, 6)
    with pytest.raises(InputError, match=r"coordinate 4 of 5 has no variance .* reduce k to 3"):
        fit_reduction(rows, 5, whiten=True)
    with pytest.raises(ConfigError, match="whiten: 'yes' is not True or False"):
        fit_reduction(rows, 2, whiten="yes")


@pytest.mark.mpi
def test_ranks_fit_the_whitened_reduction_of_all_rows(comm):
    rows = np.random.default_rng(3).standard_normal((300, 20)) * 0.8 ** np.arange(20)
    alone = fit_reduction(rows, 5, whiten=True)
    together = fit_reduction(rows[comm.rank :: comm.size], 5, whiten=True, comm=comm)
    np.testing.assert_allclose(together.scales, alone.scales, rtol=1e-6)
    np.testing.assert_allclose(together.steps, alone.steps, rtol=1e-5)


@pytest.mark.mpi
def test_ranks_fit_the_reduction_of_all_rows(comm):
    rows = np.random.default_rng(3).standard_normal((300, 20)) * 0.8 ** np.arange(20)
    alone = fit_reduction(rows, 5)
    together = fit_reduction(rows[comm.rank :: comm.size], 5, comm=comm)
    np.testing.assert_allclose(together.components, alone.components, atol=1e-8)
    np.testing.assert_allclose(together.steps, alone.steps, rtol=1e-5)


@pytest.mark.mpi
def test_ranks_that_share_the_rows_of_a_file_have_the_same_steps(comm, shared_tmp):
    rows = np.random.default_rng(3).standard_normal((300, 20)) * 0.8 ** np.arange(20)
    if comm.rank == 0:
        np.save(shared_tmp / "rows.npy", rows)
    comm.barrier()
    together = fit_reduction(open_rows(shared_tmp / "rows.npy", comm), 5)
    np.testing.assert_allclose(together.steps, fit_reduction(rows, 5).steps, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e30, 1e-290, 1e290])
def test_neighbours_of_values_whose_squares_are_no_numbers(dtype, scale):
    if dtype is np.float32 and not 1e-31 < scale < 1e31:
        scale = scale ** (36 / 290)
    rows = np.random.default_rng(0).standard_normal((80, 6))
    scaled = (scale * rows).astype(dtype)
    exact = nearest(rows, rows[:20], 5)
    np.testing.assert_array_equal(nearest(scaled, scaled[:20], 5), exact)
    mixed = scaled * np.geomspace(1, 1e-3, 80)[:, None].astype(dtype)  # cosines are the same
    np.testing.assert_array_equal(nearest(mixed, scaled[:20], 5), exact)
    if dtype is np.float64:
        components = np.linalg.qr(rows[:6])[0][:3]
        parts = np.ones(3), 1.0, np.zeros(3), np.ones(3)
        reduction = EmbeddingReduction(np.zeros(6), components, *parts)
        np.testing.assert_array_equal(reduction.transform(scaled), reduction.transform(rows))
        assert np.linalg.norm(reduction.transform(scaled), axis=1) == pytest.approx(1)


def test_rows_and_codes_that_are_no_numbers():
    rows = np.random.default_rng(0).standard_normal((30, 6))
    wrong = rows.copy()
    wrong[7, 2] = np.nan
    with pytest.raises(InputError, match=r"row 7 \(counted from 0\) is not finite"):
        nearest(wrong, rows[:2], 3)
    with pytest.raises(InputError, match=r"query 7 \(counted from 0\) is not finite"):
        nearest(rows, wrong, 3)
    reduction = fit_reduction(rows, 3)
    for text in (rows.astype(str), rows.astype(object), rows + 0j):
        with pytest.raises(InputError, match=r"embeddings of type .*: give real numbers"):
            fit_reduction(text, 3)
        with pytest.raises(InputError, match=r"embeddings of type .*: give real numbers"):
            reduction.transform(text)
    for codes in ([[1, 2, 3]], np.zeros((2, 4), np.int8), np.zeros(3, np.int8)):
        with pytest.raises(InputError, match="codes of"):
            reduction.decode(codes)


@pytest.mark.mpi
def test_reductions_that_differ_between_ranks(comm):
    last = comm.rank == comm.size - 1
    rows = np.random.default_rng(comm.rank).standard_normal((30, 6))
    with pytest.raises(InputError, match="embeddings: this is no array of numbers"):
        fit_reduction([[1.0, 2.0], [3.0]] if last else rows, 2, comm=comm)
    if comm.size > 1:
        with pytest.raises(ConfigError, match="whiten differs between ranks: False, True"):
            fit_reduction(rows, 2, whiten=last, comm=comm)
