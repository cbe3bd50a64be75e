"""Engine that PCA chooses, compared with every other engine and with scikit-learn, on 62 shapes.

    OPENBLAS_THREAD_TIMEOUT=20 python benchmarks/engine_grid.py
        [--repeats 3] [--only TEXT] [--threads 2]

For each shape, type, spectrum and number of components: seconds of ``PCA(k).fit``, of the same with
each engine requested, and of those solvers of scikit-learn that are exact and suit the shape
(covariance_eigh, full, arpack). All run in turn; medians of the repeats. "chosen / best" compares
with the fastest engine, "chosen / peer" with the fastest solver of scikit-learn. An answer is
refused if it is not certified, or if its eigenvalues differ from those of another engine by more
than the tolerance. Engines with a predicted time of more than ten times the fastest are left out.
Nothing else should run on the machine. Prints Markdown, the worst ratios and geometric means.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import scipy.sparse
import sklearn.decomposition
from threadpoolctl import threadpool_limits

from hpcembed import PCA
from hpcembed.runtime.machine.threads import available_cores
from miramns.bench.harness.tables import markdown_table


@dataclass(frozen=True)
class Case:
    """One set of rows, and the components to find."""

    n: int
    d: int
    k: int | float
    kind: str = "float32"
    spectrum: str = "decaying"

    @property
    def name(self) -> str:
        return f"{self.n} x {self.d}, {self.kind}, {self.spectrum}, {self.k}"


TALL = [(2_000, 50), (200_000, 50), (1_000_000, 30), (400_000, 100), (100_000, 300)]
SQUARE = [(10_000, 784), (60_000, 784), (20_000, 1_000), (20_000, 1_500), (20_000, 3_000)]
WIDE = [(2_000, 4_000), (1_000, 20_000)]

CASES = [
    *(Case(n, d, k) for n, d in TALL + SQUARE + WIDE for k in (10, 25 if d <= 50 else 50)),
    *(Case(n, d, 10, "float64") for n, d in (*TALL[1:], *SQUARE, *WIDE)),
    *(Case(n, d, k, "uint8") for n, d in (TALL[3], SQUARE[1], SQUARE[4]) for k in (10, 50)),
    Case(*SQUARE[1], 50, "int16"),
    *(Case(n, d, 10, spectrum="flat") for n, d in (TALL[3], *SQUARE, *WIDE)),
    *(Case(n, d, 10, spectrum="slow") for n, d in (SQUARE[1], SQUARE[3], SQUARE[4], WIDE[0])),
    Case(4_000, 768, 0.95, spectrum="slow"),
    Case(4_000, 768, 0.95, spectrum="flat"),
    Case(10_000, 784, 780),
    Case(3_000, 1_500, 700),
    *(Case(50_000, 10_000, k, "sparse") for k in (10, 50)),
    Case(100_000, 2_000, 10, "sparse"),
    Case(200_000, 50_000, 10, "sparse"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--repeats", type=int, default=3)
    add("--only", default="", metavar="TEXT", help="cases whose name contains this text")
    add("--threads", type=int, default=0, help="default: all cores")
    arguments = parser.parse_args()
    table, to_best, to_peer = [], [], []
    with threadpool_limits(arguments.threads or len(available_cores())):
        for case in CASES:
            if arguments.only not in case.name:
                continue
            row, best, peer = measured(case, arguments.repeats)
            print(" | ".join(map(str, row)), file=sys.stderr, flush=True)
            table.append(row)
            to_best.append(best)
            to_peer.append(peer)
    headings = ("rows, type, spectrum, k", "chosen", "seconds", "other engines: seconds",
                "chosen / best", "scikit-learn: seconds", "chosen / peer")  # fmt: skip
    print("\n".join(markdown_table(headings, table)))
    known = [ratio for ratio in to_peer if not math.isnan(ratio)]
    print(f"\nchosen / best: worst {max(to_best):.2f}, geometric mean {geometric(to_best):.2f}")
    print(f"chosen / peer: worst {max(known):.2f}, geometric mean {geometric(known):.2f}")


def rows_of(case: Case) -> Any:
    rng = np.random.default_rng(0)
    n, d = case.n, case.d
    if case.kind == "sparse":
        rows = scipy.sparse.random_array((n, d), density=min(100 / d, 0.05), format="csr", rng=rng,
                                         dtype=np.float32)  # fmt: skip
        scale = np.geomspace(1, 1e-2, d, dtype=np.float32)
        rows.data *= scale[rows.indices]
        return rows
    exponents = {"decaying": 1.0, "slow": 0.25, "flat": 0.0}
    deviations = np.arange(1, d + 1, dtype=np.float32) ** -exponents[case.spectrum]
    rows = rng.standard_normal((n, d), dtype=np.float32)
    rows *= deviations
    # features are combinations of the sources, by reflections: no order, no axes
    v = rng.standard_normal(d, dtype=np.float32)
    v /= np.linalg.norm(v)
    rows -= np.outer(rows @ (2 * v), v)
    if case.kind in ("uint8", "int16"):
        most = np.iinfo(case.kind).max
        rows -= rows.min()
        rows *= most / rows.max()
    return rows.astype(case.kind)


def measured(case: Case, repeats: int) -> tuple[tuple[str, ...], float, float]:
    """Return a line of the table and both ratios."""
    rows = rows_of(case)
    first = PCA(case.k).fit(rows)
    chosen = first.plan_.engine
    least = min(cost.seconds for cost in first.plan_.costs)
    engines = [cost.engine for cost in first.plan_.costs if cost.seconds <= 10 * least]
    solvers: dict[str, Any] = {"auto": lambda: PCA(case.k)}
    for engine in engines:
        if engine not in (chosen, "matrix_free"):
            solvers[engine] = lambda engine=engine: PCA(case.k, engine=engine)
    peers = peers_of(case)
    times: dict[str, list[float]] = {name: [] for name in (*solvers, *peers)}
    values = {}
    for _ in range(repeats):
        for name, make in (solvers | peers).items():
            estimator = make()
            began = time.perf_counter()
            estimator.fit(rows)
            times[name].append(time.perf_counter() - began)
            values[name] = estimator
    check(case, {name: values[name] for name in solvers})
    seconds = {name: median(found) for name, found in times.items()}
    ours = seconds["auto"]
    others = {name: seconds[name] for name in solvers if name != "auto"}
    best = ours / min([ours, *others.values()])
    fastest = min((seconds[name] for name in peers), default=math.nan)
    row = (
        case.name, chosen, f"{ours:.3f}", listed(others), f"{best:.2f}",
        listed({name: seconds[name] for name in peers}), f"{ours / fastest:.2f}",
    )  # fmt: skip
    return row, best, ours / fastest


def peers_of(case: Case) -> dict[str, Any]:
    """Return scikit-learn's exact solvers that suit the shape."""
    names = []
    whole = isinstance(case.k, float) or case.k > 0.2 * min(case.n, case.d)
    if case.kind == "sparse":
        names = ["arpack"] + (["covariance_eigh"] if case.d <= 2_000 else [])
    elif case.d <= min(case.n, 3_000):
        names = ["covariance_eigh"]
    else:
        names = ["arpack"] + (["full"] if case.n <= 2_000 else [])
    if case.d >= 1_000 and not whole and "arpack" not in names:
        names.append("arpack")
    return {
        name: lambda name=name: sklearn.decomposition.PCA(case.k, svd_solver=name) for name in names
    }


def check(case: Case, found: dict[str, PCA]) -> None:
    reference = found["auto"].explained_variance_
    for name, pca in found.items():
        values = pca.explained_variance_
        if not pca.certified_ or len(values) != len(reference):
            sys.exit(f"{case.name}, {name}: not certified, or another number of components")
        error = np.abs(values - reference).max() / reference[0]
        if error > 2e-6:
            sys.exit(f"{case.name}, {name}: eigenvalues differ by {error:.1e} of the largest")


def listed(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in seconds.items()) or "-"


def geometric(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
