"""Real data sets, if they are available: shapes, label counts, known values."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from hpcembed.data.reading import describe_dataset, read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.data.tables.matrix_market import read_matrix

MNIST = DataSettings(
    name="mnist",
    train=("mnist/train-images-idx3-ubyte.gz",),
    train_labels="mnist/train-labels-idx1-ubyte.gz",
    test=("mnist/t10k-images-idx3-ubyte.gz",),
    test_labels="mnist/t10k-labels-idx1-ubyte.gz",
    scaling="divide",
)
CIFAR10 = DataSettings(
    name="cifar10",
    train=tuple(f"cifar10/data_batch_{number}.bin" for number in range(1, 6)),
    test=("cifar10/test_batch.bin",),
)


def gathered(comm, labels: np.ndarray) -> np.ndarray:
    return np.concatenate(comm.allgather(labels))


@pytest.mark.mpi
def test_mnist(data_dir, comm):
    data = read_dataset(MNIST, data_dir, comm)
    labels = gathered(comm, data.train.labels.codes)
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(labels), counts)
    np.testing.assert_array_equal(labels[:5], [5, 0, 4, 1, 9])
    assert (data.train.n_rows, data.test.n_rows) == (60000, 10000)
    assert data.train.rows.dtype == np.uint8
    assert data.train.rows.shape[1] == 784
    total = comm.allreduce(int(data.train.rows.sum(dtype=np.int64)))
    assert abs(total / (60000 * 784 * 255) - 0.1306605) < 1e-6


def test_mnist_described(data_dir, comm):
    said = describe_dataset(MNIST, data_dir, comm)
    assert said.n_rows == (60000, 10000)
    assert (said.n_features, said.dtype) == (784, "uint8")


@pytest.mark.mpi
def test_cifar10(data_dir, comm):
    data = read_dataset(CIFAR10, data_dir, comm)
    for table, each in ((data.train, 5000), (data.test, 1000)):
        labels = gathered(comm, table.labels.codes)
        np.testing.assert_array_equal(np.bincount(labels), np.full(10, each))
        assert table.rows.shape[1] == 3072
    # Red, green and blue means of the training images, as widely published.
    means = comm.allreduce(data.train.rows.sum(axis=0, dtype=np.int64)).reshape(-1, 3).sum(axis=0)
    np.testing.assert_allclose(means / (50000 * 1024 * 255), [0.4914, 0.4822, 0.4465], atol=2e-4)


@pytest.mark.mpi
def test_date_fruit(data_dir, comm):
    config = DataSettings(
        name="date_fruit",
        train=("tabular/date_fruit_datasets.csv",),
        label_column="Class",
        split="sklearn",
        split_seed=42,
        scaling="standard",
    )
    data = read_dataset(config, data_dir, comm)
    train, _ = train_test_split(np.arange(898), test_size=0.2, random_state=42)
    lines = (data_dir / config.train[0]).read_text().splitlines()[1:]
    cells = [line.split(";") for line in lines]
    rows = np.array([[float(cell) for cell in line[:-1]] for line in cells])[np.sort(train)]
    own = slice(data.train.start, data.train.start + len(data.train.rows))
    np.testing.assert_array_equal(data.train.rows, rows[own])
    assert data.train.class_names == tuple(sorted({line[-1] for line in cells}))
    assert (data.train.n_rows, data.test.n_rows) == (718, 180)
    assert data.train.feature_names[0] == "AREA"
    np.testing.assert_allclose(data.scaling.shift, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.scaling.factor, 1 / rows.std(axis=0), rtol=1e-12)


@pytest.mark.mpi
def test_fetal_health(data_dir, comm):
    config = DataSettings(
        name="fetal", train=("tabular/fetal_health.csv",), label_column="fetal_health"
    )
    data = read_dataset(config, data_dir, comm)
    assert data.train.class_names == ("1.0", "2.0", "3.0")
    counts = np.bincount(gathered(comm, data.train.labels.codes))
    held = np.bincount(gathered(comm, data.test.labels.codes))
    np.testing.assert_array_equal(counts + held, [1655, 295, 176])
    np.testing.assert_array_equal(held, [331, 59, 35])
    assert data.train.feature_names[0] == "baseline value"
    assert data.train.rows.shape[1] == 21


@pytest.mark.mpi
def test_unsw_nb15(data_dir, comm):
    config = DataSettings(name="unsw", train=("tabular/unsw_nb15.npz",), split="random")
    data = read_dataset(config, data_dir, comm)
    assert data.train.n_rows + data.test.n_rows == 257657
    assert data.test.n_rows == round(0.2 * 257657)
    assert data.train.rows.dtype == np.float32
    assert data.train.rows.shape[1] == 42
    assert len(data.train.class_names) == 10


def test_reference_eigenvectors(data_dir):
    for name, shape in (("mnist_eigen_50", (784, 50)), ("date_fruit_eigen_17", (34, 17))):
        found = read_matrix(data_dir / f"reference/{name}.mtx")
        assert isinstance(found, np.ndarray)
        assert found.shape == shape
        np.testing.assert_allclose(found.T @ found, np.eye(shape[1]), atol=1e-4)


def test_collection_matrices_as_scipy_reads_them(data_dir):
    import scipy.io

    for name in ("west0479", "bcsstk13", "bfw782a"):
        found = read_matrix(data_dir / f"matrices/{name}.mtx")
        expected = scipy.io.mmread(data_dir / f"matrices/{name}.mtx")
        assert abs(found - expected).max() == 0
