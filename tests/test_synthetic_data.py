"""Synthetic data: the planted spectrum, row by row the same on any rank, the file format."""

from __future__ import annotations

import numpy as np
import pytest

from hpcembed.data.reading import read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.runtime.ranks import ownership_range
from synthetic_data import planted_covariance, planted_directions, write_winnipeg_like

SPECTRUM = [9.0, 4.0, 1.0, 0.25]


def test_the_spectrum_is_the_planted_one():
    n = 200_000
    rows = planted_covariance(n, 10, SPECTRUM, 5)
    covariance = rows.T @ rows / n
    values, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(values[::-1][:4], SPECTRUM, rtol=5 * np.sqrt(2 / n))
    np.testing.assert_allclose(values[:6], 0, atol=1e-12)
    directions = planted_directions(10, 4, 5)
    np.testing.assert_allclose(directions.T @ directions, np.eye(4), atol=1e-13)
    np.testing.assert_allclose(np.abs(directions.T @ vectors[:, ::-1][:, :4]), np.eye(4), atol=0.01)
    assert abs(rows.mean(axis=0)).max() < 5 * 3 / np.sqrt(n)


@pytest.mark.mpi
def test_every_rank_makes_its_own_rows(comm):
    start, stop = ownership_range(50, comm)
    own = planted_covariance(50, 7, SPECTRUM, 1, start, stop)
    np.testing.assert_allclose(own, planted_covariance(50, 7, SPECTRUM, 1)[start:stop], rtol=1e-13)


def test_sizes_that_contradict_each_other():
    for arguments in ((5, 3, SPECTRUM, 0), (5, 9, [-1.0], 0), (5, 9, SPECTRUM, 0, 2, 6)):
        with pytest.raises(ValueError, match=r"rows|eigenvalues"):
            planted_covariance(*arguments)


def test_winnipeg_like(tmp_path, comm):
    write_winnipeg_like(tmp_path / "WinnipegDataset.txt", 700, 3)
    header, first = (tmp_path / "WinnipegDataset.txt").read_text().split("\n")[:2]
    assert header == "label," + ",".join(f"f{j}" for j in range(1, 175))
    assert len(first.split(",")) == 175
    config = DataSettings(train=("WinnipegDataset.txt",), label_column="label")
    data = read_dataset(config, tmp_path, comm)
    assert data.train.class_names == tuple("1234567")
    assert data.train.n_rows + data.test.n_rows == 700
    # The classes are separable: the nearest class mean is right for most test rows.
    means = np.array([data.train.rows[data.train.labels.codes == c].mean(axis=0) for c in range(7)])
    nearest = ((data.test.rows[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == data.test.labels.codes).mean() > 0.9
    write_winnipeg_like(tmp_path / "again.txt", 700, 3)
    again = (tmp_path / "again.txt").read_bytes()
    assert again == (tmp_path / "WinnipegDataset.txt").read_bytes()
