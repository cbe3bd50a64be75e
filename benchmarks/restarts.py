"""Products with thick restarts relative to those without, by subspace size and share kept.

The choice of the subspace size in miramns is fitted to this table:

    python benchmarks/restarts.py --nodes 60000 --k 10
"""

from __future__ import annotations

import argparse
from unittest import mock

from mpi4py import MPI

import miramns
from miramns.bench.harness.tables import markdown_row, markdown_table
from miramns.bench.problems.random_graphs import random_graph
from miramns.iteration import subspace_size

RATIOS = (2.5, 4, 6, 8)
SHARES = (0.15, 1 / 3, 1 / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=60_000)
    parser.add_argument("--degree", type=float, default=10.0)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--which", default="LM")
    parser.add_argument("--tol", type=float, default=1e-8)
    arguments = parser.parse_args()
    A = random_graph(MPI.COMM_WORLD, arguments.nodes, arguments.degree, seed=0)
    k = arguments.k
    settings = {"which": arguments.which, "hermitian": True, "tol": arguments.tol}

    def options(sizes: range) -> miramns.Options:
        return miramns.Options(nested_sizes=sizes, multiplicity_check="never")

    free = miramns.solve(A, k, options=options(range(2 * k, 150 * k, k // 2)), **settings)
    if not free.converged or free.n_restarts:
        raise SystemExit("the run without restarts did not converge: nothing to compare with")
    print(f"no restart: {free.n_matvec} products")
    print("\n".join(markdown_table(["m / k", "share kept", "products", "ratio"], [])))
    for ratio in RATIOS:
        m = int(ratio * k)
        for share in SHARES:
            with mock.patch.object(
                subspace_size,
                "kept_size",
                lambda wanted, size, s=share: wanted + int(s * (size - wanted)),
            ):
                result = miramns.solve(
                    A, k, max_it=5000, options=options(range(k + 2, m + 1)), **settings
                )
            same = result.converged and abs(result.eigenvalues - free.eigenvalues).max() < 1e-6
            cost = (result.n_matvec, f"{result.n_matvec / free.n_matvec:.2f}")
            cells = [f"{ratio:g}", f"{share:.2f}", *(cost if same else ("wrong", ""))]
            print(markdown_row(cells), flush=True)
    A.destroy()


if __name__ == "__main__":
    main()
