"""Map of 10,000 rows of MNIST: UMAP on k principal components compared with UMAP on all pixels.

    OMP_NUM_THREADS=1 python benchmarks/umap_map.py --data-dir DATA [--rows 10000] [--components 50]
        [--repeats 3] [--out FILE.json]

The methods take turns, with the number of the repeat as seed:

* `all features`: umap-learn with its defaults on the pixels, which are 500 epochs for these rows;
* `all features, 200 epochs`: as many epochs as `report --map` has;
* `coordinates`: umap-learn with its defaults on the k coordinates;
* `report --map`: the settings of `hpcembed report --map` on the k coordinates
  (hpcembed/jobs/run_map/layout.py).

Seconds of the last two methods include the fit of `hpcembed.PCA` and the projection. Compilation
by numba is not part of them: all methods run once before, on fewer rows, and these seconds are
printed as well. CPU seconds depend less on other processes than seconds do. Trustworthiness is
that of scikit-learn: the share of the 15 neighbours in the map that are neighbours among the
pixels, weighted by ranks. Needs umap-learn.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import trustworthiness

from hpcembed import PCA
from hpcembed.jobs.run_map.layout import N_EPOCHS, N_NEIGHBORS, map_positions
from hpcembed.runtime.machine.threads import blas_threads
from miramns.bench.harness.tables import markdown_table

#: umap-learn approximates the neighbours of at least 4,096 rows, by functions that numba compiles.
WARM_UP_ROWS = 4_200
Rows = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--components", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of umap-learn: parts that are not installed
    rows = read_rows(arguments.data_dir, arguments.rows)
    methods = {
        "all features": lambda X, seed: default_umap(X, seed),
        f"all features, {N_EPOCHS} epochs": lambda X, seed: default_umap(
            X, seed, n_epochs=N_EPOCHS
        ),
        "coordinates": lambda X, seed: default_umap(project(X, arguments.components), seed),
        "report --map": lambda X, seed: map_positions(project(X, arguments.components), seed),
    }
    for name, method in methods.items():
        first = timed(method, rows[: min(WARM_UP_ROWS, len(rows))], 0)[1]
        print(f"first call with compilation, {name}: {first:.1f} s", flush=True)
    records: list[dict[str, Any]] = []
    for seed in range(arguments.repeats):
        for name, method in methods.items():
            positions, seconds, cpu = timed(method, rows, seed)
            trust = trustworthiness(rows, positions, n_neighbors=N_NEIGHBORS)
            records.append(
                {"method": name, "seed": seed, "seconds": seconds, "cpu": cpu, "trust": trust}
            )
            print(records[-1], flush=True)
    print(f"\n{len(rows):,} rows, k = {arguments.components}, {blas_threads()} thread(s) of BLAS\n")
    print(table(records, list(methods)))
    if arguments.out:
        arguments.out.write_text(json.dumps(records, indent=1))


def read_rows(folder: Path, n: int) -> Rows:
    """Return the first n training images, with pixels between 0 and 1."""
    with gzip.open(folder / "mnist" / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + 784 * n), dtype=np.uint8, offset=16)
    return pixels.reshape(-1, 784).astype(np.float32) / 255


def project(X: Rows, k: int) -> Rows:
    return np.asarray(PCA(k).fit_transform(X), dtype=np.float32)


def default_umap(X: Rows, seed: int, **settings: Any) -> Rows:
    from umap import UMAP

    return np.asarray(UMAP(random_state=seed, n_jobs=1, **settings).fit_transform(X))


def timed(method: Callable[[Rows, int], Any], X: Rows, seed: int) -> tuple[Any, float, float]:
    start, cpu = time.perf_counter(), time.process_time()
    positions = method(X, seed)
    return positions, time.perf_counter() - start, time.process_time() - cpu


def table(records: list[dict[str, Any]], methods: list[str]) -> str:
    """Medians, and medians of the ratios to UMAP on all features in the same repeat."""

    def values(name: str, field: str) -> list[float]:
        return [one[field] for one in records if one["method"] == name]

    lines = []
    for name in methods:
        cells = [name]
        for field in ("seconds", "cpu"):
            pairs = zip(values(name, field), values(methods[0], field), strict=True)
            cells.append(f"{statistics.median(values(name, field)):.1f}")
            cells.append(f"{statistics.median(ours / base for ours, base in pairs):.2f}")
        trust = values(name, "trust")
        cells.append(f"{statistics.median(trust):.4f} ({min(trust):.4f} to {max(trust):.4f})")
        lines.append(cells)
    headings = ["method", "seconds", "ratio", "CPU seconds", "ratio", "trustworthiness"]
    return "\n".join(markdown_table(headings, lines, numbers_from=1))


if __name__ == "__main__":
    main()
