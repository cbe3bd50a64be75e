"""Exact kernel PCA beside scikit-learn's, and accuracies on landmarks beside plain PCA.

    python benchmarks/kernel_pca.py --data-dir DATA [--rows 10000] [--components 50] [--repeats 3]
                                    [--gamma auto] [--threads 1] [--landmarks 2000] [--seeds 5]
                                    [--skip exact|networks]

First table: the first rows of MNIST in double, rbf kernel; every method in a process of its own,
one after the other in every repeat: seconds of the fit, memory that it took (largest resident size
less that before the fit, after a small one that loads libraries), largest relative error of the
eigenvalues against scikit-learn's, and scikit-learn's seconds over its own (of the processor
where there is one thread). `a tenth` may take a tenth of the stored kernel; `single` makes tiles in
single precision, certified in double. scikit-learn runs ARPACK, the faster of its exact solvers for
so few of so many.

Second table: networks on k coordinates of all training rows, by jobs/mnist_kernel.toml: principal
components, then landmarks, the same recipe and seeds, test accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

JOB = Path(__file__).resolve().parents[1] / "jobs" / "mnist_kernel.toml"
METHODS = ("scikit-learn", "auto", "a tenth", "a tenth, single")


def rows_of(data_dir: Path, count: int) -> np.ndarray:
    """Training images, between 0 and 1."""
    from hpcembed.data.arrays.idx import open_idx

    images = open_idx(data_dir / "mnist" / "train-images-idx3-ubyte.gz")
    return np.concatenate(list(images.blocks(0, count))) / 255.0


def child(arguments: argparse.Namespace) -> None:
    """One fit, in a process of its own; figures to standard output, eigenvalues to a file."""
    import time

    from hpcembed.runtime.memory import peak_bytes

    X, k = rows_of(arguments.data_dir, arguments.rows), arguments.components
    gamma = 1 / X.shape[1] if arguments.gamma == "auto" else float(arguments.gamma)
    tenth = 8 * len(X) ** 2 // 10

    def model(k: int, memory: int | None):
        if arguments.child == "scikit-learn":
            import sklearn.decomposition

            return sklearn.decomposition.KernelPCA(
                k, kernel="rbf", gamma=gamma, eigen_solver="arpack", random_state=0, copy_X=False
            )
        from hpcembed.embedding import KernelPCA

        tol = 1e-6 if "single" in arguments.child else None
        memory = memory if "tenth" in arguments.child else None
        return KernelPCA(k, kernel="rbf", gamma=gamma, tol=tol, memory_limit=memory)

    model(3, 2**26).fit(X[:300])
    before = peak_bytes()
    began, used = time.perf_counter(), time.process_time()
    fitted = model(k, tenth).fit(X)
    seconds, used = time.perf_counter() - began, time.process_time() - used
    np.save(arguments.eigenvalues, fitted.eigenvalues_)
    found = {
        "seconds": seconds,
        "processor": used,
        "bytes": peak_bytes() - before,
        "kernel": 10 * tenth,
    }
    if arguments.child != "scikit-learn":
        found["how"] = f"{fitted.plan_.kind}, blocks of {fitted.plan_.width}"
        found["passes"] = fitted.n_passes_
        residual = fitted.residual_norms_.max() / fitted.eigenvalues_[0]
        found["residual"] = float(residual)
    print(json.dumps(found))


def exact(arguments: argparse.Namespace) -> None:
    """The first table."""
    found: dict[str, list[dict]] = {name: [] for name in METHODS}
    values = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.repeats):
            for name in METHODS:
                path = Path(folder) / "values.npy"
                command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
                command += ["--eigenvalues", str(path)]
                environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise SystemExit(f"{name}: {done.stderr[-2000:]}")
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
                values[name] = np.load(path)
    kernel = found["auto"][0]["kernel"] / 2**20
    print(
        f"{arguments.rows:,} rows, k = {arguments.components}, stored kernel {kernel:.0f} MiB, "
        f"{arguments.threads} thread(s), {arguments.repeats} repeats\n"
    )
    print(
        "| method | how | seconds | processor | scikit-learn / ours | MiB | passes | error "
        "| residual |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        processor = statistics.median(run["processor"] for run in runs)
        pairs = zip(found["scikit-learn"], runs, strict=True)
        # of one thread: what else runs on the machine does not count
        what = "processor" if arguments.threads == 1 else "seconds"
        ratio = statistics.median(one[what] / run[what] for one, run in pairs)
        memory = max(run["bytes"] for run in runs) / 2**20
        error = np.max(np.abs(values[name] / values["scikit-learn"] - 1))
        last = runs[-1]
        cells = [name, last.get("how", "arpack"), f"{seconds:.1f}", f"{processor:.1f}"]
        cells += [f"{ratio:.2f}", f"{memory:.0f}", str(last.get("passes", "-")), f"{error:.1e}"]
        cells.append(f"{last['residual']:.1e}" if "residual" in last else "-")
        print(f"| {' | '.join(cells)} |", flush=True)


def networks(arguments: argparse.Namespace) -> None:
    """The second table."""
    from mpi4py import MPI

    from hpcembed.jobs.job import prepare
    from hpcembed.jobs.network_inputs import project
    from hpcembed.jobs.steps import fit, read
    from hpcembed.networks.training.batch import Member, train_batch
    from hpcembed.networks.training.recipe import ClassifierConfig, Recipe
    from hpcembed.networks.training.training import Samples

    k = arguments.components
    members = [Member(seed, k) for seed in range(arguments.seeds)]
    landmarks = f"{arguments.landmarks:,} landmarks"
    print(f"\n32-32 on {k} coordinates of 60,000 rows, {arguments.seeds} seeds\n")
    print("| input | seconds to fit | test accuracy % (mean, each) | less than PCA, points |")
    print("|---|--:|---|--:|")
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
            *samples, 10, (32, 32), Recipe.of(ClassifierConfig(device="cpu")), members,
            input_name="embedded", threads=arguments.threads, device="cpu",
        )  # fmt: skip
        each = [100 * one.test_accuracy for one in trained.outcomes]
        plain = plain or each
        lost = statistics.mean(plain) - statistics.mean(each)
        listed = ", ".join(f"{one:.2f}" for one in each)
        seconds = sum(embedding.seconds_.values())
        print(
            f"| {name} | {seconds:.1f} | {statistics.mean(each):.2f} ({listed}) | {lost:+.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--components", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gamma", default="auto")
    parser.add_argument("--network-kernel", default="", help="default: the job's")
    parser.add_argument("--network-gamma", default="", help="default: the job's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--landmarks", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--skip", choices=("exact", "networks"))
    parser.add_argument("--child", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--eigenvalues", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    if arguments.skip != "exact":
        exact(arguments)
    if arguments.skip != "networks":
        networks(arguments)


if __name__ == "__main__":
    main()
