"""Graphs: accuracy of networks on spectral coordinates, and time to certified eigenvectors.

    python benchmarks/graphs.py cora email --data-dir DATA [--splits 5] [--first-split 100]
    [mpiexec -n 2] python benchmarks/graphs.py power-law [--nodes 1000000] [--edges 10000000]
                                                         [-k 32] [--repeats 3]

cora: a network of 64 units on (a) the 1,433 words, (b) 128 coordinates of the citation graph, (c)
64 principal components of the words averaged over neighbours, (d) both. email: 64 coordinates of
email-Eu-core, its rows of the adjacency matrix, and the share of the largest department.
Stratified 80/20 splits; the settings were chosen on splits 0 to 4, so the defaults are others.
One network for each split; mean and extremes of the test accuracy. DATA is the folder that
contains graphs/.

power-law: the k largest eigenpairs of D^-1/2 A D^-1/2 on the largest component of a random graph,
with true residuals of at most 1e-6: hpcembed on the ranks of the job, and SciPy's eigsh in a
process of its own, in turn in every repeat. Residuals in double precision and the eigenvalues of
the other method test every answer; a wrong answer ends the script. Memory is the peak beyond the
memory before the solution. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

#: Largest residual of a right answer, and largest difference between two answers' eigenvalues.
TOLERANCE = 1e-6
LARGEST_DIFFERENCE = 1e-5

#: Settings of the coordinates of cora beside components of its words.
COMBINED_TAU, COMBINED_SCALE = 0.3, 0.03


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="+", choices=("cora", "email", "power-law"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--first-split", type=int, default=100, help="seed of the first split")
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("-k", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.data_dir is None and {"cora", "email"} & set(arguments.what):
        parser.error("set --data-dir to the folder that contains graphs/")
    splits = range(arguments.first_split, arguments.first_split + arguments.splits)
    if "cora" in arguments.what:
        cora(arguments.data_dir / "graphs", splits)
    if "email" in arguments.what:
        email(arguments.data_dir / "graphs", splits)
    if "power-law" in arguments.what:
        power_law(arguments)


# ------------------------------------------------------------------------------------- accuracy


def cora(folder: Path, splits: range) -> None:
    from mpi4py import MPI

    from hpcembed.data.graphs.reading import read_labelled_graph
    from hpcembed.embedding import PCA
    from hpcembed.operators.graph.smoothing import smooth

    found = read_labelled_graph(folder / "cora.npz", MPI.COMM_SELF)
    graph, labels = found.graph, found.labels
    words = found.attributes
    placed = coordinates(graph, 128, "random_walk", 0.3)
    smoothed = smooth(graph, words, 2)

    def components(train: np.ndarray, k: int = 64) -> np.ndarray:
        return PCA(k, tol=1e-8).fit(smoothed[train]).transform(smoothed)

    beside = COMBINED_SCALE * coordinates(graph, 64, "random_walk", COMBINED_TAU)
    print(f"cora: {graph.describe()}")
    inputs: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "1,433 words": lambda _: words.toarray(),
        "128 coordinates of the graph": lambda _: placed,
        "64 components of smoothed words": components,
        "64 components and 64 coordinates": lambda train: np.hstack([components(train), beside]),
    }
    for name, rows in inputs.items():
        report(name, test_accuracies(rows, labels, splits, 128))


def email(folder: Path, splits: range) -> None:
    from mpi4py import MPI

    from hpcembed.data.graphs.graph import GraphOptions
    from hpcembed.data.graphs.reading import read_labelled_graph

    found = read_labelled_graph(
        folder / "email-Eu-core.txt",
        MPI.COMM_SELF,
        GraphOptions(directed="sum"),
        labels=folder / "email-Eu-core-department-labels.txt",
    )
    placed = coordinates(found.graph, 64, "normalized", "mean")
    print(f"email: {found.graph.describe()}")
    largest = np.bincount(found.labels).max() / len(found.labels)
    print(f"  {'largest department':36} {100 * largest:6.2f} %")
    inputs = {
        "rows of the adjacency matrix": found.graph.rows.toarray(),
        "64 coordinates of the graph": placed,
    }
    for name, rows in inputs.items():
        report(name, test_accuracies(lambda _, rows=rows: rows, found.labels, splits, 64))


def coordinates(graph: Any, k: int, operator: str, tau: float | str) -> np.ndarray:
    from hpcembed.embedding import SpectralEmbedding

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the graphs have several components
        model = SpectralEmbedding(k, operator=operator, tau=tau, tol=1e-8).fit(graph)
    assert model.residual_norms_.max() <= 1e-7
    return model.embedding_ * np.sqrt(graph.n_nodes)


def test_accuracies(
    rows: Callable[[np.ndarray], np.ndarray], labels: np.ndarray, splits: range, batch: int
) -> list[float]:
    """Train one network for each split on the rows that ``rows(is_training_row)`` returns."""
    from mpi4py import MPI

    from hpcembed.data.splits import held_out_rows
    from hpcembed.networks.training.gathered_training import train_classifier
    from hpcembed.networks.training.recipe import Recipe
    from hpcembed.networks.training.samples import Samples

    n_classes = int(labels.max()) + 1
    accuracies = []
    for seed in splits:
        recipe = Recipe(epochs=60, batch_size=batch, learning_rate=3e-3, dropout=(0.5,))
        test = held_out_rows(
            "stratified", 0.2, seed, labels, n_classes, 0, len(labels), MPI.COMM_SELF
        )
        inputs = rows(~test).astype(np.float32)
        trained = train_classifier(
            Samples(inputs[~test], labels[~test]),
            Samples(inputs[test], labels[test]),
            n_classes,
            (64,),
            recipe,
            input_name="embedded",
            seed=seed,
            threads=n_threads(),
        )
        accuracies.append(100 * trained.report.test_accuracy)
    return accuracies


def n_threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def report(name: str, accuracies: list[float]) -> None:
    mean, low, high = statistics.mean(accuracies), min(accuracies), max(accuracies)
    print(f"  {name:36} {mean:6.2f} %   {low:.1f} to {high:.1f}", flush=True)


# ---------------------------------------------------------------------------------------- speed


def power_law(arguments: argparse.Namespace) -> None:
    from mpi4py import MPI

    from hpcembed.data.graphs.graph import GraphOptions
    from hpcembed.data.graphs.power_law import power_law_graph
    from hpcembed.runtime.agreement import idle_while_root
    from hpcembed.runtime.machine.memory import format_bytes
    from hpcembed.runtime.ranks import gather_rows

    comm, k = MPI.COMM_WORLD, arguments.k
    began = time.perf_counter()
    options = GraphOptions(duplicates="once", components="largest")
    graph = power_law_graph(arguments.nodes, arguments.edges, comm, options=options)
    seconds = time.perf_counter() - began
    if comm.rank == 0:
        print(f"{graph.describe()}\ngenerated on {comm.size} ranks in {seconds:.1f} s, k = {k}")
    parts = [gather_rows(comm, part) for part in
             (np.diff(graph.rows.indptr), graph.rows.indices, graph.rows.data)]  # fmt: skip
    outcomes: dict[str, list[Any]] = {"hpcembed": [], "scipy": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if comm.rank == 0:
            N = normalized(*parts)
            scipy.sparse.save_npz(folder / "N.npz", N, compressed=False)
        del parts
        for _ in range(arguments.repeats):
            ours = hpcembed_answer(graph, k)
            vectors = gather_rows(comm, ours.result.embedding_)
            theirs = idle_while_root(comm, lambda: scipy_answer(folder, k))
            if comm.rank == 0:
                values = ours.result.eigenvalues_
                refuse_wrong(N, {"hpcembed": (values, vectors), "scipy": theirs.result})
                outcomes["hpcembed"].append(ours)
                outcomes["scipy"].append(theirs)
    if comm.rank == 0:
        times = {solver: [one.seconds for one in found] for solver, found in outcomes.items()}
        for solver, found in outcomes.items():
            listed = ", ".join(f"{one:.2f}" for one in times[solver])
            peak = format_bytes(max(one.peak_bytes for one in found))
            print(
                f"  {solver:10} {statistics.median(times[solver]):8.2f} s ({listed})  peak {peak}"
            )
        ratios = [b / a for a, b in zip(times["hpcembed"], times["scipy"], strict=True)]
        print(f"  scipy / hpcembed: {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def normalized(counts: np.ndarray, indices: np.ndarray, data: np.ndarray) -> Any:
    n = len(counts)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    A = scipy.sparse.csr_matrix((data, indices, indptr), shape=(n, n))
    roots = np.asarray(A.sum(axis=1)).reshape(-1) ** -0.5
    A.data *= np.repeat(roots, counts) * roots[A.indices]
    return A


def hpcembed_answer(graph: Any, k: int) -> Any:
    """Return the outcome of a fit: the model, seconds of the slowest rank, memory of all ranks.

    Collective.
    """
    from dataclasses import replace

    from mpi4py import MPI

    from hpcembed.embedding import SpectralEmbedding
    from miramns.bench.harness.separate_process import measured

    comm = graph.comm
    model = SpectralEmbedding(k, operator="normalized", drop_first=False, tol=TOLERANCE)

    def fit() -> Any:
        model.fit(graph)
        comm.Barrier()
        return model

    comm.Barrier()
    own = measured(fit)
    if comm.allreduce(own.peak_bytes is None):
        raise SystemExit("memory is measured on Linux only")
    seconds = comm.allreduce(own.seconds, op=MPI.MAX)
    return replace(own, seconds=seconds, peak_bytes=comm.allreduce(own.peak_bytes))


def scipy_answer(folder: Path, k: int) -> Any:
    """Return the outcome of SciPy's eigsh in a process of its own."""
    from miramns.bench.harness.separate_process import run_separately

    order = {"folder": folder, "k": k}
    outcome = run_separately(prepare_scipy, order, threads=n_threads())
    if outcome.status != "ok":
        raise SystemExit(f"scipy: {outcome.why}")
    return outcome


def prepare_scipy(order: dict[str, Any]) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    N, k = scipy.sparse.load_npz(order["folder"] / "N.npz"), order["k"]
    start = np.random.default_rng(0).standard_normal(N.shape[0])

    def run() -> tuple[np.ndarray, np.ndarray]:
        values, vectors = scipy.sparse.linalg.eigsh(N, k, which="LA", tol=TOLERANCE, v0=start)
        descending = np.argsort(-values)
        return values[descending], vectors[:, descending]

    return run


def refuse_wrong(N: Any, answers: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """End the script if an answer has a large residual, or two answers have other eigenvalues."""
    for solver, (values, vectors) in answers.items():
        rest = N @ vectors - vectors * values
        norms = np.linalg.norm(rest, axis=0) / np.linalg.norm(vectors, axis=0)
        loss = np.abs(vectors.T @ vectors - np.eye(len(values))).max()
        worst = float(norms.max()) if loss < 1e-6 else math.inf
        if not worst <= TOLERANCE:
            raise SystemExit(f"{solver}: a residual of {worst:.1e}; a wrong answer has no time")
    first, second = (values for values, _ in answers.values())
    if not np.allclose(first, second, rtol=0, atol=LARGEST_DIFFERENCE):
        raise SystemExit("the answers have different eigenvalues; a wrong answer has no time")


if __name__ == "__main__":
    main()
