"""Accuracy of compact networks on small data compared with a tuned scikit-learn MLP.

``python benchmarks/small_data.py [--data-dir DATA] [--splits 5] [--first-split 100] [--sets iris]``

Each data set is split into four fifths of training and one fifth of test rows, stratified, several
times. The random states of the splits count from ``--first-split``. The default recipe was chosen
with the splits 0 to 4 in view, so fresh splits have higher numbers. Both methods get the same
principal components of the standardised features, computed from the training rows. hpcembed trains
one network with the default recipe, whose settings follow from the rows; scikit-learn's
MLPClassifier is tuned by 3-fold cross-validation on the training rows over hidden layers, penalty
and learning rate, and then trained on all of them. Test rows take
no part in any choice. Printed are the means over the splits, the mean difference with its
Student-t interval over the splits, the accuracy of 30 epochs of 256 rows (the settings for large
data), the accuracy of the largest class, and seconds of one training.

Without ``--data-dir`` the data sets of scikit-learn alone are measured; DATA/tabular adds the date
fruit and fetal health tables.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from hpcembed.networks.paired_intervals import paired
from hpcembed.networks.training.batched_training import Member, train_batch
from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.samples import Samples

HIDDEN = (64, 64)
GRID = {
    "hidden_layer_sizes": [(32, 32), (64, 64)],
    "alpha": [1e-4, 1e-2, 1.0],
    "learning_rate_init": [1e-3, 1e-2],
}
#: Settings of large data, which small data had before.
LARGE = Recipe(epochs=30, batch_size=256, patience=0)


@dataclass(frozen=True)
class DataSet:
    """Rows, classes, and the number of components that networks get."""

    name: str
    rows: NDArray[np.float64]
    labels: NDArray[np.int64]
    k: int


def data_sets(folder: Path | None) -> Iterator[DataSet]:
    """Yield the data sets in the order of the table."""
    yield _bundled("iris", datasets.load_iris, 4)
    yield _bundled("wine", datasets.load_wine, 8)
    yield _bundled("breast_cancer", datasets.load_breast_cancer, 10)
    rows, labels = datasets.load_digits(return_X_y=True)
    for seed in range(2):  # 300 rows: 240 training rows
        chosen = np.random.default_rng(seed).permutation(len(labels))[:300]
        yield DataSet(f"digits, subset {seed}", rows[chosen], labels[chosen], 20)
    rows, progression = datasets.load_diabetes(return_X_y=True)
    classes = np.searchsorted(np.quantile(progression, [1 / 3, 2 / 3]), progression)
    yield DataSet("diabetes in thirds", rows, classes, 8)
    if folder is not None:
        yield _table(folder / "tabular" / "date_fruit_datasets.csv", ";", "Class", 17)
        yield _table(folder / "tabular" / "fetal_health.csv", ",", "fetal_health", 10)


def _bundled(name: str, load: Any, k: int) -> DataSet:
    rows, labels = load(return_X_y=True)
    return DataSet(name, rows, labels, k)


def _table(path: Path, separator: str, label: str, k: int) -> DataSet:
    """Read a table of numbers with one column of classes."""
    with path.open(newline="") as file:
        header, *lines = csv.reader(file, delimiter=separator)
    column = header.index(label)
    labels = np.unique([line.pop(column) for line in lines], return_inverse=True)[1]
    return DataSet(path.stem, np.array(lines, dtype=np.float64), labels, k)


def compare(data: DataSet, splits: range, n_seeds: int) -> tuple[str, ...]:
    """Return the row of the table of a data set."""
    ours, large, tuned, seconds = [], [], [], []
    for split in splits:
        rows, test_rows, labels, test_labels = train_test_split(
            data.rows, data.labels, test_size=0.2, random_state=split, stratify=data.labels
        )
        scaler = StandardScaler().fit(rows)
        embedding = PCA(data.k, svd_solver="full").fit(scaler.transform(rows))
        train, test = (embedding.transform(scaler.transform(part)) for part in (rows, test_rows))
        samples = (
            Samples(train, labels.astype(np.int64)),
            Samples(test, test_labels.astype(np.int64)),
        )
        began = time.perf_counter()
        ours.append(_accuracy(*samples, data, Recipe(), n_seeds))
        seconds.append((time.perf_counter() - began) / n_seeds)
        large.append(_accuracy(*samples, data, LARGE, n_seeds))
        search = GridSearchCV(MLPClassifier(max_iter=400, random_state=split), GRID, cv=3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            tuned.append(search.fit(train, labels).score(test, test_labels))
    found = paired(ours, tuned)
    assert found is not None
    majority = np.bincount(data.labels).max() / len(data.labels)
    return (
        data.name,
        str(len(labels)),
        str(data.k),
        f"{100 * np.mean(ours):.1f}",
        f"{100 * np.mean(tuned):.1f}",
        f"{100 * found.mean:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]",
        f"{100 * np.mean(large):.1f}",
        f"{100 * majority:.1f}",
        f"{np.median(seconds):.2f}",
    )


def _accuracy(train: Samples, test: Samples, data: DataSet, recipe: Recipe, n_seeds: int) -> float:
    """Return the mean test accuracy over the seeds."""
    members = [Member(seed, data.k) for seed in range(n_seeds)]
    n_classes = int(data.labels.max()) + 1
    trained = train_batch(
        train, test, n_classes, HIDDEN, recipe, members, input_name="embedded", threads=1
    )
    return float(np.mean([one.test_accuracy for one in trained.results]))


def main() -> None:
    """Print the table, one line after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--first-split", type=int, default=100, help="random state of a split")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", help="first words of the names (default: all)")
    arguments = parser.parse_args()
    print(
        "| data | training rows | k | hpcembed % | tuned MLP % | difference | 30 epochs of 256 % "
        "| largest class % | s |\n|:--|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    for data in data_sets(arguments.data_dir):
        if arguments.sets is None or data.name.split(",")[0] in arguments.sets:
            first = arguments.first_split
            cells = compare(data, range(first, first + arguments.splits), arguments.seeds)
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
