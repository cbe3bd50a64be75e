"""Rival projections beside principal components: networks on the first rows of MNIST or CIFAR-10.

    OMP_NUM_THREADS=1 python benchmarks/projections.py mnist --data-dir DATA [--rows 10000]
        [--dimensions 9 20 60] [--seeds 5] [--work FOLDER]
    OMP_NUM_THREADS=1 python benchmarks/projections.py cifar10 --data-dir DATA --dimensions 20 60

The study is written to FOLDER/out; finished trials there are not trained again. Prints the report
of the study, and a table of ``docs/explanations/projections.md``. CPU seconds are those of one fit
of an estimator on the training rows with as many coordinates as the table has, measured after the
study, one estimator after the other: the least of ``--fits`` fits. They depend less on other
processes than seconds do.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed import (
    PCA,
    Autoencoder,
    CanonicalCorrelation,
    CosineTransform,
    FastJohnsonLindenstrauss,
    FeatureTruncation,
    GaussianProjection,
    LinearDiscriminantAnalysis,
    LocalityPreservingProjection,
    SparseProjection,
)
from hpcembed.jobs.study.command import run_study
from hpcembed.jobs.study.rivals.catalogue import RIVALS
from hpcembed.jobs.study.trials import RivalKind
from miramns.bench.harness.tables import markdown_table

STUDY = """
[data]
name = "{name}, {rows:,} rows"
format = "npz"
train = ["train.npz"]
test = ["test.npz"]
scaling = "divide"
divisor = 255.0

[study]
dimensions = {dimensions}
networks = [[64, 64]]
rivals = [{rivals}]
image_shape = {shape}
seeds = {seeds}
margin = {margin}
"""
SHAPES = {"mnist": (28, 28), "cifar10": (3, 32, 32)}
MARGINS = {"mnist": 0.2, "cifar10": 0.5}
HEADINGS = (
    "k", "projection", "coordinates", "fitted on", "CPU seconds of a fit", "test %",
    "difference to pca",
)  # fmt: skip
Rows = NDArray[np.uint8]


def mnist(folder: Path, part: str, rows: int | None) -> tuple[Rows, Rows]:
    """Return images as rows, and labels, from the IDX files."""
    prefix = folder / "mnist" / ("train" if part == "train" else "t10k")
    contents = []
    for kind, offset in (("images-idx3", 16), ("labels-idx1", 8)):
        with gzip.open(f"{prefix}-{kind}-ubyte.gz") as file:
            contents.append(np.frombuffer(file.read(), np.uint8, offset=offset))
    return contents[0].reshape(-1, 784)[:rows], contents[1][:rows]


def cifar10(folder: Path, part: str, rows: int | None) -> tuple[Rows, Rows]:
    """Return images as rows, and labels, from the binary files; all training rows of one batch."""
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if part == "train" else ["test_batch.bin"]
    found = np.concatenate([np.fromfile(folder / "cifar10" / one, np.uint8) for one in names])
    records = found.reshape(-1, 3073)[:rows]
    return records[:, 1:], records[:, 0]


READERS = {"mnist": mnist, "cifar10": cifar10}


def estimators(shape: tuple[int, ...]) -> dict[str, Callable[[int], Any]]:
    """Return the estimator of each projection, with the settings of a study, for k coordinates."""
    classes = {
        "lda": LinearDiscriminantAnalysis,
        "cca": CanonicalCorrelation,
        "lpp": LocalityPreservingProjection,
        "gaussian": GaussianProjection,
        "sparse": SparseProjection,
        "fast": FastJohnsonLindenstrauss,
    }
    made: dict[str, Callable[[int], Any]] = {
        name: lambda k, name=name: classes[name](k, **RIVALS[name].settings) for name in classes
    }
    return made | {
        "pca": PCA,
        "dct": lambda k: CosineTransform(k, image_shape=shape),
        "truncation": FeatureTruncation,
        "variance": lambda k: FeatureTruncation(k, order="variance"),
        "autoencoder": lambda k: Autoencoder(k, **RIVALS["autoencoder"].settings, n_threads=1),
    }


def cpu_seconds(make: Callable[[], Any], X: NDArray[Any], y: Rows, fits: int) -> float:
    """Return the least processor seconds of some fits."""
    spent = []
    for _ in range(fits):
        estimator, began = make(), time.process_time()
        estimator.fit(X, y)
        spent.append(time.process_time() - began)
    return min(spent)


def table(path: Path, X: NDArray[Any], y: Rows, shape: tuple[int, ...], fits: int) -> list[str]:
    """Return the table of a study from its rivals.csv, with processor seconds."""
    make, known = estimators(shape), dict[tuple[str, int], float]()

    def lines(points: Iterable[dict[str, str]]) -> Iterator[tuple[str, ...]]:
        for point in points:
            name = "pca" if point["input"] == "spectral" else point["input"]
            k = int(point["n_inputs"])
            if (name, k) not in known:
                known[name, k] = cpu_seconds(lambda: make[name](k), X, y, fits)  # noqa: B023
            mean, deviation, *interval = (
                100 * float(point[key] or "nan")
                for key in (
                    "test_mean", "test_deviation", "difference", "difference_low",
                    "difference_high",
                )
            )  # fmt: skip
            yield (
                point["dimension"],
                name,
                str(k),
                point["fitted_on"],
                f"{known[name, k]:.2f}",
                f"{mean:.2f} ± {deviation:.2f}",
                "-" if name == "pca" else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*interval),
            )

    with path.open(encoding="utf-8", newline="") as file:
        return markdown_table(HEADINGS, list(lines(csv.DictReader(file))))


def main() -> None:
    """Write the rows and the study, run it, and print its report and the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("data", choices=tuple(READERS))
    add("--data-dir", type=Path, required=True, help="folder with mnist/ and cifar10/")
    add("--rows", type=int, default=10_000, help="training rows")
    add("--dimensions", type=int, nargs="+", default=[9, 20, 60], help="values of k")
    add("--seeds", type=int, default=5)
    add("--fits", type=int, default=3, help="fits of each estimator that are timed")
    add("--rivals", nargs="+", choices=get_args(RivalKind), default=get_args(RivalKind))
    add("--work", type=Path, help="default: a temporary folder")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.data]
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for part, rows in (("test", None), ("train", arguments.rows)):
            images, labels = READERS[arguments.data](arguments.data_dir, part, rows)
            np.savez(work / f"{part}.npz", x=images, y=labels)
        text = STUDY.format(
            name=arguments.data,
            rows=arguments.rows,
            dimensions=arguments.dimensions,
            rivals=", ".join(f'"{name}"' for name in arguments.rivals),
            shape=list(shape),
            seeds=arguments.seeds,
            margin=MARGINS[arguments.data],
        )
        (work / "study.toml").write_text(text)
        run_study(work / "study.toml", [], None, work / "out", MPI.COMM_SELF)
        X = images.astype(np.float32) / 255
        lines = table(work / "out" / "rivals.csv", X, labels, shape, arguments.fits)
        print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
