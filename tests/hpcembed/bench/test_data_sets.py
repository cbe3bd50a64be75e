"""Tables of the benchmark of PCAs: names, spectra, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from hpcembed.bench.data_sets import load, parse
from hpcembed.runtime.errors import ConfigError, InputError

HERE = Path()


@pytest.mark.parametrize(
    "word",
    [
        "iris", "mnist:2", "generated", "generated:10", "generated:1x5", "generated:9x0",
        "generated:9x5:half", "generated:9x5:geometric2", "sparse:9x5", "sparse:9x5:2:power1",
    ],
)  # fmt: skip
def test_unknown_tables_are_named(word):
    with pytest.raises(ConfigError, match=f"--data {word}"):
        parse(word)


def test_generated_rows_have_the_stated_spectrum():
    data = parse("generated:4000x60:float64:power1.5")
    rows = load(data, HERE, 3)
    assert rows.shape == (4000, 60)
    assert rows.dtype == np.float64
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    planted = np.arange(1, 31) ** -1.5
    noise = 0.1 * planted.sum() / 60
    np.testing.assert_allclose(values[:8], planted[:8] + noise, rtol=0.1)
    assert np.linalg.norm(rows.mean(axis=0)) > 0.5  # centring matters
    np.testing.assert_array_equal(rows, load(data, HERE, 3))
    assert not np.array_equal(rows, load(data, HERE, 4))


def test_spectrum_and_type_are_read_from_the_word():
    rows = load(parse("generated:3000x40:geometric0.5"), HERE, 0)
    assert rows.dtype == np.float32
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    np.testing.assert_allclose(values[1:4] / values[:3], 0.5, rtol=0.1)


def test_sparse_rows_are_as_asked_for():
    data = parse("sparse:500x300:7:float64")
    rows = load(data, HERE, 1)
    assert scipy.sparse.issparse(rows)
    assert rows.dtype == np.float64
    assert rows.shape == (500, 300)
    assert 0.8 * 3500 < rows.nnz <= 3500  # some fall on the same place
    assert rows.data.min() >= 0.5
    counts = np.sort(rows.getnnz(axis=0))[::-1]
    assert counts[0] > 4 * counts[150]
    assert (rows != load(data, HERE, 1)).nnz == 0


def test_digits_are_there_without_files():
    rows = load(parse("digits"), HERE, 0)
    assert rows.shape == (1797, 64)
    assert rows.dtype == np.float32
    assert rows.max() == 1


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load(parse("mnist"), tmp_path, 0)
