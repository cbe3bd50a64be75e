"""Fast Johnson-Lindenstrauss transform compared with dense and sparse projections.

    OMP_NUM_THREADS=1 python benchmarks/random_projections.py [--features 1024 4096 16384 65536]
        [--components 256 1024] [--rows 512] [--repeats 5] [--dtype float64] [--out FILE.json]

Seconds of `transform` on rows in memory, by fitted models whose matrix is already generated;
medians of the repeats, in which the methods take turns. The peers are scikit-learn's
GaussianRandomProjection and SparseRandomProjection (density 1/sqrt(d), dense rows). `generation` is
the time in which ours and scikit-learn's generate the normal matrix. Distortions are relative
changes of the squared distances of all pairs of 60 rows.

Every answer is tested: coordinates equal the product of some rows with the explicit matrix, and no
more pairs than the bound of Johnson and Lindenstrauss allows are distorted by more than `eps`.
A wrong answer ends the script. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from scipy.spatial.distance import pdist
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from hpcembed import FastJohnsonLindenstrauss, GaussianProjection, SparseProjection
from hpcembed.embedding.projections import distortion_probability
from hpcembed.runtime.machine.threads import blas_threads
from miramns.bench.harness.tables import markdown_table

METHODS = {
    "FastJohnsonLindenstrauss": FastJohnsonLindenstrauss,
    "GaussianProjection": GaussianProjection,
    "SparseProjection": SparseProjection,
    "scikit-learn, Gaussian": GaussianRandomProjection,
    "scikit-learn, sparse": SparseRandomProjection,
}
EPS = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--features", type=int, nargs="+", default=[1024, 4096, 16384, 65536])
    parser.add_argument("--components", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    print(f"{arguments.rows} rows, {arguments.dtype}, {blas_threads()} thread(s) of BLAS\n")
    records = []
    for d in arguments.features:
        for k in arguments.components:
            if k < d:
                records.append(measured(d, k, arguments))
    print(table(records), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(records, indent=1))


def measured(d: int, k: int, arguments: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(d + k)
    # a spectrum that decays, and rows of different lengths
    X = rng.standard_normal((arguments.rows, d)) * np.geomspace(1, 1e-2, d)
    X = (X * rng.uniform(0.1, 10, (arguments.rows, 1))).astype(arguments.dtype)
    models, generation = {}, {}
    for name, kind in METHODS.items():
        start = time.perf_counter()
        models[name] = kind(k, random_state=1).fit(X)
        models[name].transform(X[:2])
        generation[name] = time.perf_counter() - start
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(arguments.repeats):
        for name, model in models.items():
            start = time.perf_counter()
            found = model.transform(X)
            seconds[name].append(time.perf_counter() - start)
            if scipy.sparse.issparse(found) or found.shape != (len(X), k):
                raise SystemExit(f"{name}: coordinates of another kind or shape")
    distortions = {name: tested(name, model, X, k) for name, model in models.items()}
    return {
        "features": d,
        "components": k,
        "seconds": {name: statistics.median(each) for name, each in seconds.items()},
        "all_seconds": seconds,
        "generation": generation,
        "distortions": distortions,
    }


def tested(name: str, model: Any, X: np.ndarray, k: int) -> dict[str, float]:
    """End the script unless the coordinates are right; return the distortions."""
    chosen = X[:60].astype(np.float64)
    exact = np.asarray((model.components_ @ chosen.T).T)
    found = np.asarray(model.transform(X))[:60]
    tolerance = 1e-10 if X.dtype == np.float64 else 1e-4
    largest = np.abs(exact - found).max() / np.abs(exact).max()
    if not largest <= tolerance:
        raise SystemExit(f"{name}: coordinates differ by {largest:.1e} from those of its matrix")
    before = pdist(chosen, "sqeuclidean")
    change = np.abs(pdist(found.astype(np.float64), "sqeuclidean") / before - 1)
    share, bound = float(np.mean(change > EPS)), distortion_probability(k, EPS)
    if not share <= bound:
        raise SystemExit(
            f"{name}: {share:.3f} of the pairs are distorted, the bound is {bound:.3f}"
        )
    return {"root_mean_square": float(np.sqrt(np.mean(change**2))), "share": share, "bound": bound}


def table(records: list[dict[str, Any]]) -> str:
    rows = []
    for one in records:
        seconds, ours = one["seconds"], one["seconds"]["FastJohnsonLindenstrauss"]
        distortions = one["distortions"]
        relative = (
            distortions["FastJohnsonLindenstrauss"]["root_mean_square"]
            / distortions["GaussianProjection"]["root_mean_square"]
        )
        rows.append([
            f"{one['features']:,}", f"{one['components']:,}",
            *(f"{1e3 * seconds[name]:,.1f}" for name in METHODS),
            f"{seconds['GaussianProjection'] / ours:.1f}",
            f"{seconds['scikit-learn, Gaussian'] / ours:.1f}",
            f"{one['generation']['GaussianProjection']:.2f} / "
            f"{one['generation']['scikit-learn, Gaussian']:.2f}",
            f"{relative:.2f}",
        ])  # fmt: skip
    headings = ["d", "k", *(f"{name}, ms" for name in METHODS), "dense / fast",
                "scikit-learn / fast", "generation, s", "distortion, fast / dense"]  # fmt: skip
    return "\n".join(markdown_table(headings, rows, numbers_from=0))


if __name__ == "__main__":
    main()
