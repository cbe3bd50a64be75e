#!/usr/bin/env python3
"""Does a diagnostic of the dimension predict the smallest k without loss?

    python benchmarks/dimensions.py --data-dir DATA [--only digits wine] [--margin 1] [--seeds 5]
                                    [--rows 12000] [--out RESULTS]

Each data set is studied with one network, 64-64, on all numbers of components up to 16 and on steps
of a fifth up to 50. The first table has the diagnostics of the training rows beside the smallest k
whose loss is at most the margin, in points, on validation rows. The second one has Spearman's and
Kendall's rank correlation of each diagnostic with this k, over the data sets that have both, and
the range of k divided by the diagnostic. An interval counts as the geometric mean of its ends.
Large data sets have a subset of their rows, drawn by seed 0. The number of features is listed for
comparison.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import sklearn.datasets
from mpi4py import MPI
from numpy.typing import NDArray

import hpcembed
from hpcembed.data.reading import read_dataset
from hpcembed.data.settings import DataSettings
from miramns.bench.harness.tables import markdown_row, markdown_table

Rows = tuple[NDArray[Any], NDArray[Any]]
NETWORK = (64, 64)
HEADINGS = ("data", "rows", "features", "effective rank", "participation ratio", "stable rank",
            "90 % of the variance", "Marchenko-Pastur", "Gavish-Donoho", "MLE", "TwoNN",
            "smallest k")  # fmt: skip


def of_files(settings: DataSettings) -> Callable[[Path], Rows]:
    def read(folder: Path) -> Rows:
        table = read_dataset(settings, folder, MPI.COMM_SELF).train
        return table.rows, table.label_array

    return read


def of_csv(name: str) -> Callable[[Path], Rows]:
    """Read a table whose last column is the label."""

    def read(folder: Path) -> Rows:
        path = folder / "tabular" / name
        mark = ";" if ";" in path.read_text().partition("\n")[0] else ","
        cells = np.loadtxt(path, str, delimiter=mark, skiprows=1)
        return np.char.replace(cells[:, :-1], ",", ".").astype(float), cells[:, -1]

    return read


def unsw(folder: Path) -> Rows:
    with np.load(folder / "tabular" / "unsw_nb15.npz", allow_pickle=False) as arrays:
        return arrays["x"], arrays["y"]


def bundled(load: Callable[..., Any]) -> Callable[[Path], Rows]:
    return lambda _folder: load(return_X_y=True)


#: Rows and labels of each data set, and the divisor of images; 0: tables, which are standardised.
DATA: dict[str, tuple[Callable[[Path], Rows], float]] = {
    "wine": (bundled(sklearn.datasets.load_wine), 0),
    "breast_cancer": (bundled(sklearn.datasets.load_breast_cancer), 0),
    "digits": (bundled(sklearn.datasets.load_digits), 16),
    "date_fruit": (of_csv("date_fruit_datasets.csv"), 0),
    "fetal_health": (of_csv("fetal_health.csv"), 0),
    "unsw_nb15": (unsw, 0),
    "mnist": (
        of_files(
            DataSettings(
                format="idx",
                train=("mnist/train-images-idx3-ubyte.gz",),
                train_labels="mnist/train-labels-idx1-ubyte.gz",
                test=("mnist/t10k-images-idx3-ubyte.gz",),
                test_labels="mnist/t10k-labels-idx1-ubyte.gz",
            )
        ),
        255,
    ),
    "cifar10": (
        of_files(
            DataSettings(
                format="cifar10",
                train=tuple(f"cifar10/data_batch_{i}.bin" for i in range(1, 6)),
                test=("cifar10/test_batch.bin",),
            )
        ),
        255,
    ),
}


def studied(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the content of ``study.json`` of one data set."""
    read, divisor = DATA[name]
    X, y = read(arguments.data_dir)
    chosen = np.sort(np.random.default_rng(0).permutation(len(X))[: arguments.rows])
    X, y = X[chosen], y[chosen]
    if divisor:
        X = X.astype(np.float32) / np.float32(divisor)
    out = None if arguments.out is None else arguments.out / name
    found = hpcembed.study(
        X, y, networks=[NETWORK], seeds=arguments.seeds, margin=arguments.margin, out=out,
        scaling="none" if divisor else "standard", settings={"output.figures": False},
    )  # fmt: skip
    assert found is not None  # one rank
    return found.content


def diagnostics(study: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """Return the number of each diagnostic and its text; NaN if it is not determined."""
    dimensions, found = study["dimensions"], {}
    for heading in HEADINGS[3:6]:
        ends = dimensions["spectrum"][heading.replace(" ", "_")]
        low, high = ends["low"], ends["high"]
        text = f"{low:.1f} to {high:.1f}" if high - low >= 0.1 else f"{low:.1f}"
        found[heading] = math.sqrt(low * high), text
    shares = np.cumsum(study["embedding"]["explained_variance_ratio"])
    k = int(np.searchsorted(shares, 0.9)) + 1
    known = k <= len(shares)
    found[HEADINGS[6]] = (float(k), str(k)) if known else (math.nan, f"> {len(shares)}")
    for heading, one in zip(HEADINGS[7:9], dimensions["suggested_sizes"], strict=False):
        size, least = one["size"], one["at_least"]
        found[heading] = (math.nan, f">= {least}") if size is None else (float(size), str(size))
    for heading, key in zip(HEADINGS[9:11], ("mle", "two_nn"), strict=True):
        value = (dimensions["intrinsic"] or {key: {"value": None}})[key]["value"]
        found[heading] = (math.nan, "-") if value is None else (value, f"{value:.1f}")
    features = study["dataset"]["n_features"]
    return {"number of features": (float(features), ""), **found}


def smallest_k(study: dict[str, Any]) -> int | None:
    (one,) = study["smallest"]
    return one["n_inputs"] if one["holds"] else None


def correlations(found: dict[str, dict[str, tuple[float, str]]], ks: dict[str, int]) -> list[str]:
    """Return the rows of the second table."""
    lines = []
    for heading in next(iter(found.values())):
        names = [name for name in ks if math.isfinite(found[name][heading][0])]
        values = [found[name][heading][0] for name in names]
        sizes = [ks[name] for name in names]
        cells = ["-", "-", "-"]
        if len(names) >= 3:
            spearman = scipy.stats.spearmanr(values, sizes).statistic
            kendall = scipy.stats.kendalltau(values, sizes).statistic
            quotients = np.array(sizes) / np.array(values)
            cells = [f"{spearman:+.2f}", f"{kendall:+.2f}",
                     f"{quotients.min():.2f} to {quotients.max():.2f}"]  # fmt: skip
        lines.append(markdown_row((heading, str(len(names)), *cells)))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data-dir", type=Path, required=True)
    add("--only", nargs="+", choices=tuple(DATA), default=tuple(DATA))
    add("--margin", type=float, default=1.0)
    add("--seeds", type=int, default=5)
    add("--rows", type=int, default=12_000)
    add("--out", type=Path, help="folder of the studies, which are continued there")
    arguments = parser.parse_args()
    found, ks = {}, {}
    print("\n".join(markdown_table(HEADINGS, [])), flush=True)
    for name in arguments.only:
        study = studied(name, arguments)
        found[name], k = diagnostics(study), smallest_k(study)
        if k is not None:
            ks[name] = k
        texts = [text for _, text in found[name].values()][1:]
        sizes = (f"{study['dataset'][key]:,}" for key in ("n_train", "n_features"))
        print(markdown_row((name, *sizes, *texts, "none" if k is None else str(k))), flush=True)
    headings = ("diagnostic", "data sets", "Spearman", "Kendall", "k / diagnostic")
    print("\n" + "\n".join(markdown_table(headings, [])))
    print("\n".join(correlations(found, ks)))


if __name__ == "__main__":
    main()
