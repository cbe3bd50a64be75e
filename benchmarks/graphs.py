"""Graphs: accuracy of networks on spectral coordinates, and seconds to certified eigenvectors.

    python benchmarks/graphs.py cora email --data-dir DATA [--splits 5] [--first-split 100]
    [mpiexec -n 2] python benchmarks/graphs.py power-law [--nodes 1000000] [--edges 10000000]
                                                         [-k 32] [--repeats 3]

cora: a network of 64 units on (a) the 1,433 words, (b) 128 coordinates of the citation graph, (c)
64 principal components of the words averaged over neighbours, (d) both. email: 64 coordinates of
email-Eu-core against its rows of the adjacency matrix and the largest department. Stratified 80/20
splits that the settings were not chosen on (those were 0 to 4), one network each; mean and extremes
of the test accuracy. DATA is the folder above graphs/.

power-law: the k largest eigenpairs of D^-1/2 A D^-1/2 on the largest component of a made graph,
true residuals of 1e-6 at most: hpcembed on the ranks of the job beside scipy's eigsh in a process
of its own, in turn, in every repeat. Both are judged by residuals in double and by each other's
eigenvalues; whoever is wrong gets no time. Memory is the peak beyond what was held before solving.
Nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

LIMIT = 1e-6
#: Largest difference of two answers' eigenvalues.
AGREE = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="+", choices=("cora", "email", "power-law", "child"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--first-split", type=int, default=100, help="seed of the first one")
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("-k", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "child" in arguments.what:
        child(arguments.folder, arguments.k)
        return
    if arguments.data_dir is None and {"cora", "email"} & set(arguments.what):
        parser.error("--data-dir: the folder above graphs/")
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
        pca = PCA(k, tol=1e-8).fit(smoothed[train])
        return pca.transform(smoothed)

    beside = COMBINED_SCALE * coordinates(graph, 64, "random_walk", COMBINED_TAU)
    print(f"cora: {graph.describe()}")
    inputs: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "1,433 words": lambda _: words.toarray(),
        "128 coordinates of the graph": lambda _: placed,
        "64 components of smoothed words": components,
        "64 components and 64 coordinates": lambda train: np.hstack([components(train), beside]),
    }
    for name, rows in inputs.items():
        report(name, scores(rows, labels, splits, 128))


#: Of the coordinates of cora beside components of its words.
COMBINED_TAU, COMBINED_SCALE = 0.3, 0.03


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
    report("rows of the adjacency matrix",
           scores(lambda _: found.graph.rows.toarray(), found.labels, splits, 64))  # fmt: skip
    report("64 coordinates of the graph", scores(lambda _: placed, found.labels, splits, 64))


def coordinates(graph: Any, k: int, operator: str, tau: float | str) -> np.ndarray:
    from hpcembed.embedding import SpectralEmbedding

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there are components is known
        model = SpectralEmbedding(k, operator=operator, tau=tau, tol=1e-8).fit(graph)
    assert model.residual_norms_.max() <= 1e-7
    return model.embedding_ * np.sqrt(graph.n_nodes)


def scores(
    rows: Callable[[np.ndarray], np.ndarray], labels: np.ndarray, splits: range, batch: int
) -> list[float]:
    from mpi4py import MPI

    from hpcembed.data.splits import held_out_rows
    from hpcembed.networks.training.recipe import ClassifierConfig
    from hpcembed.networks.training.training import Samples, train_classifier

    n_classes = int(labels.max()) + 1
    accuracies = []
    for seed in splits:
        config = ClassifierConfig(epochs=60, batch_size=batch, dropout=0.5, seed=seed)
        test = held_out_rows(
            "stratified", 0.2, seed, labels, n_classes, 0, len(labels), MPI.COMM_SELF
        )
        inputs = rows(~test).astype(np.float32)
        trained = train_classifier(
            Samples(inputs[~test], labels[~test]),
            Samples(inputs[test], labels[test]),
            n_classes,
            (64,),
            config,
            input_name="embedded",
            threads=int(os.environ.get("OMP_NUM_THREADS", "1")),
        )
        accuracies.append(100 * trained.report.test_accuracy)
    return accuracies


def report(name: str, accuracies: list[float]) -> None:
    mean, low, high = statistics.mean(accuracies), min(accuracies), max(accuracies)
    print(f"  {name:36} {mean:6.2f} %   {low:.1f} to {high:.1f}", flush=True)


# ---------------------------------------------------------------------------------------- speed


def power_law(arguments: argparse.Namespace) -> None:
    from mpi4py import MPI

    from hpcembed.data.graphs.graph import GraphOptions
    from hpcembed.data.graphs.power_law import power_law_graph
    from hpcembed.runtime.memory import format_bytes
    from hpcembed.runtime.ranks import gather_rows, idle_while_root

    comm = MPI.COMM_WORLD
    began = time.perf_counter()
    options = GraphOptions(duplicates="once", components="largest")
    graph = power_law_graph(arguments.nodes, arguments.edges, comm, options=options)
    seconds = time.perf_counter() - began
    say(
        comm, f"{graph.describe()}\nmade on {comm.size} ranks in {seconds:.1f} s, k = {arguments.k}"
    )
    parts = [gather_rows(comm, part) for part in
             (np.diff(graph.rows.indptr), graph.rows.indices, graph.rows.data)]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        N = None
        if comm.rank == 0:
            N = normalized(*parts)
            scipy.sparse.save_npz(folder / "N.npz", N, compressed=False)
        del parts
        times: dict[str, list[float]] = {"hpcembed": [], "scipy": []}
        memory = {"hpcembed": 0, "scipy": 0}
        for _ in range(arguments.repeats):
            model, took, peak = ours(graph, arguments.k)
            values = model.eigenvalues_
            vectors = gather_rows(comm, model.embedding_)
            theirs = idle_while_root(comm, lambda: scipy_answer(folder, arguments.k))
            if comm.rank == 0:
                answers = {
                    "hpcembed": (values, vectors, took, peak),
                    "scipy": theirs,
                }
                check(N, answers)
                for solver, (_, _, spent, held) in answers.items():
                    times[solver].append(spent)
                    memory[solver] = max(memory[solver], held)
    if comm.rank == 0:
        for solver, spent in times.items():
            listed = ", ".join(f"{one:.2f}" for one in spent)
            print(f"  {solver:10} {statistics.median(spent):8.2f} s ({listed})  "
                  f"{format_bytes(memory[solver])} at its peak")  # fmt: skip
        ratios = [b / a for a, b in zip(times["hpcembed"], times["scipy"], strict=True)]
        print(f"  scipy / hpcembed: {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def say(comm: Any, line: str) -> None:
    if comm.rank == 0:
        print(line, flush=True)


def normalized(counts: np.ndarray, indices: np.ndarray, data: np.ndarray) -> Any:
    n = len(counts)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    A = scipy.sparse.csr_matrix((data, indices, indptr), shape=(n, n))
    roots = np.asarray(A.sum(axis=1)).reshape(-1) ** -0.5
    A.data *= np.repeat(roots, counts) * roots[A.indices]
    return A


def ours(graph: Any, k: int) -> tuple[Any, float, int]:
    """The fitted embedding, seconds on the slowest rank, memory of all ranks. Collective."""
    from hpcembed.embedding import SpectralEmbedding

    comm = graph.comm
    before = reset_peak()
    comm.Barrier()
    began = time.perf_counter()
    model = SpectralEmbedding(k, operator="normalized", drop_first=False, tol=LIMIT)
    model.fit(graph)
    comm.Barrier()
    took = comm.allreduce(time.perf_counter() - began, op=_max())
    return model, took, comm.allreduce(peak() - before)


def _max() -> Any:
    from mpi4py import MPI

    return MPI.MAX


def scipy_answer(folder: Path, k: int) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Run scipy in a process that holds nothing else."""
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("OMPI_", "PMIX_", "PMI_"))}  # fmt: skip
    command = [sys.executable, __file__, "child", "--folder", str(folder), "-k", str(k)]
    subprocess.run(command, check=True, env=environment)
    about = json.loads((folder / "about.json").read_text())
    found = np.load(folder / "answer.npz", allow_pickle=False)
    return found["values"], found["vectors"], about["seconds"], about["bytes"]


def child(folder: Path, k: int) -> None:
    N = scipy.sparse.load_npz(folder / "N.npz")
    start = np.random.default_rng(0).standard_normal(N.shape[0])
    before = reset_peak()
    began = time.perf_counter()
    values, vectors = scipy.sparse.linalg.eigsh(N, k, which="LA", tol=LIMIT, v0=start)
    seconds = time.perf_counter() - began
    about = {"seconds": seconds, "bytes": peak() - before}
    order = np.argsort(-values)
    np.savez(folder / "answer.npz", values=values[order], vectors=vectors[:, order])
    (folder / "about.json").write_text(json.dumps(about))


def check(N: Any, answers: dict[str, Any]) -> None:
    """Refuse answers that are wrong: by their residuals, and by each other's eigenvalues."""
    for solver, worst in residuals(N, answers):
        if not worst <= LIMIT:
            raise SystemExit(f"{solver}: a residual of {worst:.1e}: no times of wrong answers")
    values = [answer[0] for answer in answers.values()]
    if not np.allclose(values[0], values[1], rtol=0, atol=AGREE):
        raise SystemExit("the answers have other eigenvalues: no times of wrong answers")


def residuals(N: Any, answers: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for solver, (values, vectors, _, _) in answers.items():
        rest = N @ vectors - vectors * values
        norms = np.linalg.norm(rest, axis=0) / np.linalg.norm(vectors, axis=0)
        loss = np.abs(vectors.T @ vectors - np.eye(len(values))).max()
        yield solver, float(norms.max()) if loss < 1e-6 else float("inf")


def status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {key}: memory is measured on Linux only")


def reset_peak() -> int:
    """Forget the peak so far; what is held now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak() -> int:
    """Largest resident memory since then, in bytes."""
    return status("VmHWM")


if __name__ == "__main__":
    main()
