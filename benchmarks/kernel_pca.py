"""Exact kernel PCA compared with scikit-learn's; accuracies on landmarks compared with PCA.

    python benchmarks/kernel_pca.py --data-dir DATA [--rows 10000] [--components 50] [--repeats 3]
                                    [--gamma auto] [--threads 1] [--landmarks 2000] [--seeds 5]
                                    [--skip exact|networks]

First table: the first rows of MNIST in double precision, rbf kernel. Every method fits in a process
of its own, one after the other in every repeat, after a small fit that loads the libraries:
seconds, peak of memory less that before the fit, largest relative error of the eigenvalues against
scikit-learn's, and scikit-learn's seconds over its own (of processor time with one thread). `a
tenth` may use a tenth of the memory of the stored kernel; `single` makes tiles in single precision
and certifies in double precision. scikit-learn runs ARPACK, the faster of its exact solvers for few
components of many rows.

Second table: networks on k coordinates of all training rows, by jobs/mnist_kernel.toml: principal
components, then landmarks, with the same recipe and seeds; test accuracy.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from miramns.bench.harness.separate_process import Outcome, run_separately
from miramns.bench.harness.tables import markdown_row, markdown_table

JOB = Path(__file__).resolve().parents[1] / "jobs" / "mnist_kernel.toml"
METHODS = ("scikit-learn", "auto", "a tenth", "a tenth, single")


def prepare(order: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Read the rows and return the fit of one method, in a process of its own."""
    from hpcembed.data.arrays.idx import open_idx

    method, k, n = order["method"], order["components"], order["rows"]
    images = open_idx(order["data_dir"] / "mnist" / "train-images-idx3-ubyte.gz")
    X = np.concatenate(list(images.blocks(0, n))) / 255.0
    gamma = 1 / X.shape[1] if order["gamma"] == "auto" else float(order["gamma"])

    def model(k: int, memory: int) -> Any:
        if method == "scikit-learn":
            import sklearn.decomposition

            return sklearn.decomposition.KernelPCA(
                k, kernel="rbf", gamma=gamma, eigen_solver="arpack", random_state=0, copy_X=False
            )
        from hpcembed.embedding import KernelPCA

        tol = 1e-6 if "single" in method else None
        limit = memory if "tenth" in method else None
        return KernelPCA(k, kernel="rbf", gamma=gamma, tol=tol, memory_limit=limit)

    def run() -> dict[str, Any]:
        fitted = model(k, kernel_bytes(n) // 10).fit(X)
        found = {"eigenvalues": fitted.eigenvalues_}
        if method != "scikit-learn":
            found["how"] = f"{fitted.plan_.engine}, blocks of {fitted.plan_.width}"
            found["passes"] = fitted.n_passes_
            found["residual"] = f"{fitted.residual_norms_.max() / fitted.eigenvalues_[0]:.1e}"
        return found

    model(3, 2**26).fit(X[:300])
    return run


def kernel_bytes(n_rows: int) -> int:
    return 8 * n_rows**2


def exact(arguments: argparse.Namespace) -> None:
    """The first table."""
    found: dict[str, list[Outcome]] = {name: [] for name in METHODS}
    for _ in range(arguments.repeats):
        for name in METHODS:
            order = vars(arguments) | {"method": name}
            outcome = run_separately(prepare, order, threads=arguments.threads)
            if outcome.status != "ok":
                raise SystemExit(f"{name}: {outcome.why}")
            found[name].append(outcome)
    print(
        f"{arguments.rows:,} rows, k = {arguments.components}, stored kernel "
        f"{kernel_bytes(arguments.rows) / 2**20:.0f} MiB, {arguments.threads} thread(s), "
        f"{arguments.repeats} repeats\n"
    )
    headings = ["method", "how", "seconds", "processor", "scikit-learn / ours", "MiB", "passes",
                "error", "residual"]  # fmt: skip
    # with one thread, other processes do not affect the processor time
    measure = "processor_seconds" if arguments.threads == 1 else "seconds"
    theirs = found["scikit-learn"]
    rows = []
    for name, runs in found.items():
        last = runs[-1].result
        pairs = zip(theirs, runs, strict=True)
        ratios = [getattr(one, measure) / getattr(run, measure) for one, run in pairs]
        error = np.abs(last["eigenvalues"] / theirs[-1].result["eigenvalues"] - 1).max()
        rows.append((
            name, last.get("how", "arpack"),
            f"{statistics.median(run.seconds for run in runs):.1f}",
            f"{statistics.median(run.processor_seconds for run in runs):.1f}",
            f"{statistics.median(ratios):.2f}",
            f"{max(run.peak_bytes or 0 for run in runs) / 2**20:.0f}",
            last.get("passes", "-"), f"{error:.1e}", last.get("residual", "-"),
        ))  # fmt: skip
    print("\n".join(markdown_table(headings, rows, numbers_from=2)), flush=True)


def networks(arguments: argparse.Namespace) -> None:
    """The second table."""
    from mpi4py import MPI

    from hpcembed.jobs.job import prepare
    from hpcembed.jobs.network_inputs import project
    from hpcembed.jobs.run import fit, read
    from hpcembed.networks.training.batched_training import Member, train_batch
    from hpcembed.networks.training.recipe import Recipe
    from hpcembed.networks.training.samples import Samples

    k = arguments.components
    members = [Member(seed, k) for seed in range(arguments.seeds)]
    landmarks = f"{arguments.landmarks:,} landmarks"
    print(f"\n32-32 on {k} coordinates of 60,000 rows, {arguments.seeds} seeds\n")
    headings = ["input", "seconds to fit", "test accuracy % (mean, each)", "less than PCA, points"]
    print("\n".join(markdown_table(headings, [])))
    plain = None
    for name, method in (("principal components", "pca"), (landmarks, "nystroem")):
        changes = [f"embedding.method={method}", f"embedding.n_components={k}"]
        changes += [f"kernel.n_landmarks={arguments.landmarks}", "solver.reference=false"]
        if arguments.network_kernel:
            changes.append(f"kernel.name={arguments.network_kernel}")
        if arguments.network_gamma:
            changes.append(f"kernel.gamma={arguments.network_gamma}")
        job = prepare(JOB, changes, arguments.data_dir, None, MPI.COMM_WORLD)
        _, train, test = read(job)
        embedding = fit(job, train)
        inputs = project(embedding, train, test)
        samples = [Samples(inputs[0], train.labels), Samples(inputs[1], test.labels)]
        trained = train_batch(
            *samples, 10, (32, 32), Recipe(epochs=15, learning_rate=3e-3), members,
            input_name="embedded", threads=arguments.threads, device="cpu",
        )  # fmt: skip
        each = [100 * one.test_accuracy for one in trained.results]
        plain = plain or each
        lost = statistics.mean(plain) - statistics.mean(each)
        listed = ", ".join(f"{one:.2f}" for one in each)
        seconds = sum(embedding.seconds_.values())
        cells = name, f"{seconds:.1f}", f"{statistics.mean(each):.2f} ({listed})", f"{lost:+.2f}"
        print(markdown_row(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data-dir", type=Path, required=True)
    add("--rows", type=int, default=10_000)
    add("--components", type=int, default=50)
    add("--repeats", type=int, default=3)
    add("--gamma", default="auto")
    add("--network-kernel", default="", help="default: the job's")
    add("--network-gamma", default="", help="default: the job's")
    add("--threads", type=int, default=1)
    add("--landmarks", type=int, default=2000)
    add("--seeds", type=int, default=5)
    add("--skip", choices=("exact", "networks"))
    arguments = parser.parse_args()
    if arguments.skip != "exact":
        exact(arguments)
    if arguments.skip != "networks":
        networks(arguments)


if __name__ == "__main__":
    main()
