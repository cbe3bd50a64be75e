"""Deep linear networks, scaled gradient descent and least squares on the published problems.

    python benchmarks/deep_linear.py [--only factorisation completion sensing depth alpha ratings]
                                     [--seeds 5] [--repeats 3] [--threads 1] [--json FILE]
                                     [--ratings FILE] [--ratings-test FILE]
    python benchmarks/deep_linear.py --only mlp --data-dir FOLDER [--epochs 8] [--inner 20]
    mpiexec -n 2 python benchmarks/deep_linear.py --only large [--rows 100000] [--entries 100]

Set-ups of Kwon et al. (AISTATS 2024): three weights, orthogonal start times 1e-2, gradient descent.

* factorisation: d = 100, r = 10, learning rate 1, alpha 1, at most 100,000 iterations; dominant
  singular values of a Gaussian matrix (the published figures), and spread ones (the released code).
* completion: d = 100, r = 5, 30 % seen, learning rate 10, alpha 5, loss 1e-12, at most 25,000
  iterations; both kinds of targets, and condition number 100.
* sensing: d = 200, r = 5, 4,000 measurements, rate 20, alpha 1, 1,000 iterations; both kinds.
* depth: completion with r = 10, 30 % seen, learning rate 50, alpha 2: iterations to 1e-12 for
  depths 2 to 6 and inner orders r to 3r; also with rates and starts by the depth.
* alpha: completion with r = 5, 20 % seen, loss 1e-10.
* ratings: a made table of the size of MovieLens 100K, or the user's file.
* large: a square sparse table of rank 20, rows distributed over the ranks.
* mlp: MNIST (FOLDER/mnist/*.gz), last hidden weight ordinary, a product of three, or compressed;
  rates and alpha chosen on 5,000 training images, the kinds by turns, the test images read once.

A time in parentheses is that of a run that missed its tolerance.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from threadpoolctl import threadpool_limits

from hpcembed.networks.deep_linear import (
    Completion,
    Factorisation,
    Problem,
    Recovery,
    complete_table,
    fit_compressed_network,
    fit_full_network,
    fit_least_squares,
    fit_scaled_gradient,
    spectral_start,
)
from hpcembed.networks.deep_linear.synthetic import (
    completion_of,
    published_target,
    random_table,
    sensing_of,
)
from hpcembed.networks.paired_intervals import paired
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.machine.memory import peak_bytes
from miramns.bench.harness.tables import markdown_row, markdown_table

Fit = Callable[[Problem], Recovery]
SECTIONS = ("factorisation", "completion", "sensing", "depth", "alpha", "ratings", "mlp", "large")


def repeated(fit: Fit, problem: Problem, repeats: int) -> tuple[Recovery, float]:
    """Run a fit several times; return the last result, and the median time with its start."""
    seconds = []
    for _ in range(repeats):
        with np.errstate(all="ignore"):
            found = fit(problem)
        seconds.append(sum(found.seconds.values()))
    return found, statistics.median(seconds)


def compare(
    problems: Sequence[Problem], fits: dict[str, tuple[Fit, int]]
) -> tuple[list[tuple[Any, ...]], list[dict[str, Any]]]:
    """Run each fit on each problem; return the rows of a table, and the records."""
    rows, records = [], []
    for name, (fit, repeats) in fits.items():
        runs = [repeated(fit, problem, repeats) for problem in problems]
        found, times = zip(*runs, strict=True)
        reached = sum(one.converged for one in found)
        median = statistics.median(times)
        iterations = sorted(one.iterations for one in found)
        records += [record(one, seconds) | {"method": name} for one, seconds in runs]
        rows.append((
            name, found[0].parameters, f"{reached} of {len(found)}",
            f"{statistics.median(iterations):.0f} ({iterations[0]} to {iterations[-1]})",
            f"{median:.4f}" if reached == len(found) else f"({median:.4f})",
            f"{1e3 * statistics.median(one.seconds['start'] for one in found):.1f}",
            f"{max(one.loss for one in found):.1e}",
            f"{max(one.recovery_error for one in found):.1e}",
        ))  # fmt: skip
    return rows, records


def record(found: Recovery, seconds: float) -> dict[str, Any]:
    return {
        "algorithm": found.algorithm, "rank": found.rank, "iterations": found.iterations,
        "loss": found.loss, "recovery_error": found.recovery_error, "seconds": seconds,
        "parameters": found.parameters, "reason": found.reason.name, "converged": found.converged,
        "stages": [(one.added, one.iterations) for one in found.stages],
    }  # fmt: skip


HEADINGS = ["method", "parameters", "reached", "iterations", "seconds", "of it start, ms",
            "largest loss", "largest error"]  # fmt: skip


def show(title: str, rows: Sequence[Sequence[object]], headings: Sequence[str] = HEADINGS) -> None:
    print(f"\n{title}\n")
    print("\n".join(markdown_table(headings, rows, numbers_from=1)), flush=True)


def factorisation(arguments: argparse.Namespace) -> Any:
    common = {"learning_rate": 1.0, "max_iterations": 100_000, "tol": 1e-14}
    fits: dict[str, tuple[Fit, int]] = {
        "full network": (lambda p: fit_full_network(p, **common), 1),
        "C-DLN": (lambda p: fit_compressed_network(p, 10, alpha=1.0, **common), 1),
        "spectral start (one SVD)": (lambda p: fit_scaled_gradient(p, tol=1e-28), 3),
    }
    found = {}
    for kind, spread in (("dominant", False), ("spread", True)):
        targets = [published_target(100, 10, seed, spread=spread) for seed in range(2)]
        problems = [Factorisation(one.left @ one.right.T) for one in targets[: arguments.seeds]]
        rows, found[kind] = compare(problems, fits)
        show(f"Factorisation, d = 100, r = 10, {kind} values, loss 1e-14 (SVD: 1e-28)", rows)
    return found


def completion_fits(rank: int, tol: float, repeats: int) -> dict[str, tuple[Fit, int]]:
    ours = partial(fit_scaled_gradient, rank=rank)
    published = partial(ours, direction="gradient", step=0.5, tol=tol)
    squares: Any = partial(fit_least_squares, rank=rank)
    fits: dict[str, Fit] = {
        "C-DLN": partial(fit_compressed_network, rank=rank, tol=tol),
        "ScaledGD, published": partial(published, staged=False, max_iterations=25_000),
        "ScaledGD, staged start": published,
        "ours: staged, conjugate": partial(ours, tol=tol),
        "ours, rank by the spectra": partial(fit_scaled_gradient, tol=tol),
        "least squares, one start": partial(squares, tol=tol, staged=False),
        "least squares, staged": partial(squares, tol=tol),
        "ours, loss 1e-15": partial(ours, tol=1e-15),
        "least squares, staged, loss 1e-15": partial(squares, tol=1e-15),
    }
    full = {"full network": (partial(fit_full_network, tol=tol), 1)}
    return full | {name: (fit, repeats) for name, fit in fits.items()}


def completion(arguments: argparse.Namespace) -> Any:
    kinds: dict[str, dict[str, Any]] = {
        "spread singular values (condition about 2)": {},
        "dominant singular values (condition about 1.1)": {"spread": False},
        "condition number 100": {"condition": 100},
    }
    found = {}
    for kind, options in kinds.items():
        problems = [
            completion_of(published_target(100, 5, seed, **options), 0.3, seed)
            for seed in range(arguments.seeds)
        ]
        rows, found[kind] = compare(problems, completion_fits(5, 1e-12, arguments.repeats))
        title = f"Completion, d = 100, r = 5, 30 % seen, {kind}, loss 1e-12, {len(problems)} seeds"
        show(title, rows)
    return found


def sensing(arguments: argparse.Namespace) -> Any:
    common: Any = {"learning_rate": 20.0, "tol": 0.0, "max_iterations": 1000}
    fits: dict[str, Fit] = {
        "C-DLN": partial(fit_compressed_network, rank=5, alpha=1.0, **common),
        "ours: staged, conjugate": partial(fit_scaled_gradient, rank=5, tol=1e-18),
        "ours, rank by the spectra": partial(fit_scaled_gradient, tol=1e-18),
        "full network": partial(fit_full_network, **common),
    }
    headings = ["method", "iterations to loss 4e-6", "iterations", "loss", "error", "seconds"]
    records = []
    for kind in arguments.sensing_targets:
        problem = sensing_of(published_target(200, 5, spread=kind == "spread"), 4000)
        show(f"Sensing, d = 200, r = 5, 4,000 measurements, {kind} singular values", [], headings)
        for name, fit in fits.items():
            one, seconds = repeated(fit, problem, 1)
            reached = one.iterations_to(4e-6)
            about = {"method": name, "target": kind, "iterations_to_4e-6": reached}
            records.append(record(one, seconds) | about)
            cells = (name, "missed" if reached is None else reached, one.iterations,
                     f"{one.loss:.1e}", f"{one.recovery_error:.1e}",
                     f"({seconds:.1f})" if reached is None else f"{seconds:.1f}")  # fmt: skip
            print(markdown_row(cells), flush=True)
    return records


def depth(arguments: argparse.Namespace) -> Any:
    rank = 10
    problem = completion_of(published_target(100, rank), 0.3)
    inner = (rank, rank * 3 // 2, 2 * rank, 2 * rank + 7, 3 * rank)
    start = spectral_start(problem, inner[-1])
    largest = float(start.values[0])

    def by_depth(layers: int) -> tuple[float, float]:
        """Rate over the curvature at the solution; start of equal speed at the saddle."""
        curvature = layers * largest ** (2 - 2 / layers)
        rate = 50.0 * 3 * largest ** (4 / 3) / curvature
        return rate, 10 ** (-2 / (layers - 2)) if layers > 2 else 1e-2

    records = []
    for title, rule in (
        ("rate 50, start 1e-2", lambda layers: (50.0, 1e-2)),
        ("rate by curvature, start 10^(-2 / (depth - 2))", by_depth),
    ):
        rows = []
        for layers in range(2, 7):
            rate, scale = rule(layers)
            cells = []
            for k in inner:
                settings = {"depth": layers, "inner": k, "learning_rate": rate, "scale": scale}
                with np.errstate(all="ignore"):
                    one = fit_compressed_network(problem, rank, alpha=2.0, start=start, **settings)
                records.append(record(one, sum(one.seconds.values())) | settings)
                cells.append(
                    f"{one.iterations}, error {one.recovery_error:.0e}" if one.converged
                    else f"{one.reason.name.lower()} at {one.iterations}, loss {one.loss:.0e}"
                )  # fmt: skip
            rows.append((f"{layers}", f"{rate:.1f}", f"{scale:.3f}", *cells))
        show(f"Iterations to 1e-12 and error, d = 100, r = 10, 30 % seen, {title}", rows,
             ["depth", "rate", "start", *(f"inner {k}" for k in inner)])  # fmt: skip
    return records


def alpha(arguments: argparse.Namespace) -> Any:
    problem = completion_of(published_target(100, 5), 0.2)
    start = spectral_start(problem, 10)
    rows, records = [], []
    for value in (None, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0):
        fit: Fit = partial(fit_full_network, tol=1e-10)
        if value is not None:
            fit = partial(fit_compressed_network, rank=5, alpha=value, tol=1e-10, start=start)
        one, seconds = repeated(fit, problem, 1)
        records.append(record(one, seconds) | {"alpha": value})
        shown = f"{seconds:.2f}" if one.converged else f"({seconds:.2f})"
        rows.append((value or "full network", one.iterations, shown, f"{one.loss:.0e}",
                     f"{one.recovery_error:.0e}"))  # fmt: skip
    show("Alpha, d = 100, r = 5, 20 % seen, loss 1e-10", rows,
         ["alpha", "iterations", "seconds", "loss", "error"])  # fmt: skip
    return records


def made_ratings() -> tuple[Any, Any, Any]:
    """A table of the size of MovieLens 100K, with popular items, offsets, rank 5 and noise."""
    rng = np.random.default_rng(0)
    users, items, count = 943, 1682, 100_000
    weights = np.outer(rng.lognormal(0, 1, users), rng.lognormal(0, 1.5, items)).reshape(-1)
    cells = rng.choice(users * items, count, replace=False, p=weights / weights.sum())
    i, j = np.divmod(cells, items)
    left, right = rng.standard_normal((users, 5)), rng.standard_normal((items, 5))
    values = 3.5 + 0.45 * rng.standard_normal(users)[i] + 0.5 * rng.standard_normal(items)[j]
    values += 0.2 * np.einsum("ij,ij->i", left[i], right[j]) + 0.8 * rng.standard_normal(count)
    return i, j, np.clip(np.round(values), 1, 5)


def ratings(arguments: argparse.Namespace) -> Any:
    source = arguments.ratings or made_ratings()
    began = time.perf_counter()
    table = complete_table(source, test=arguments.ratings_test)
    seconds = time.perf_counter() - began
    name = arguments.ratings.name if arguments.ratings else "made table, noise 0.8"
    row = (name, table.n_training + table.n_validation, table.n_test, table.rank, table.ridge,
           f"{table.offsets_rmse:.4f}", f"{table.test_rmse:.4f}", f"{seconds:.1f}")  # fmt: skip
    headings = ["table", "training entries", "test entries", "rank", "ridge",
                "test RMSE of offsets", "test RMSE", "seconds"]  # fmt: skip
    show("Ratings: rank and ridge by validation entries", [row], headings)
    return dict(zip(headings, row, strict=True)) | {"parts": table.seconds}


def mlp(arguments: argparse.Namespace) -> Any:
    import torch
    from reference_models.lenet import accuracy, load_mnist, normalise

    from hpcembed.networks.deep_linear.penultimate import train_with_deep_linear_layer

    torch.set_num_threads(arguments.threads)
    images, y = load_mnist(arguments.data_dir / "mnist")
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    rows, held_out = ((normalise(images[part]).flatten(1), y[part])
                      for part in (order[5000:], order[:5000]))  # fmt: skip
    common = {"epochs": arguments.epochs, "rank": arguments.inner}
    train = partial(train_with_deep_linear_layer, (512, 512), *rows, **common)
    kinds = ["none", "full", "compressed"]
    trials: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in kinds}
    for kind, rate, alpha in product(kinds, (0.05, 0.1, 0.2), (1.0, 2.0, 5.0)):
        if kind == "compressed" or alpha == 1:
            found = 0.0  # if the loss is not finite
            with suppress(ConfigError):
                fit = train(kind=kind, learning_rate=rate, alpha=alpha, validation=held_out)
                found = round(100 * fit.validation_accuracy[-1], 2)
            trials[kind].append((found, rate, alpha))
    chosen = {kind: max(found) for kind, found in trials.items()}
    runs: dict[str, list[Any]] = {kind: [] for kind in kinds}
    for seed in range(1, arguments.seeds + 1):
        for kind in kinds[seed % 3 :] + kinds[: seed % 3]:
            _, rate, alpha = chosen[kind]
            runs[kind].append(train(kind=kind, learning_rate=rate, alpha=alpha, seed=seed))
    test = load_mnist(arguments.data_dir / "mnist", "test")
    tested = {kind: [accuracy(torch.nn.Sequential(torch.nn.Flatten(), one.network), *test)
                     for one in found] for kind, found in runs.items()}  # fmt: skip
    seconds = {kind: [sum(one.seconds.values()) for one in found] for kind, found in runs.items()}
    cells = []
    for kind in kinds:
        ratios = [a / b for a, b in zip(seconds["full"], seconds[kind], strict=True)]
        times = f"{statistics.median(seconds[kind]):.1f}", f"{statistics.median(ratios):.2f}"
        change = paired(tested[kind], tested["full"])
        cells.append((
            kind, runs[kind][0].parameters, *chosen[kind],
            *(times if min(tested[kind] + tested["full"]) >= 90 else ("not trained", "")),
            f"{statistics.mean(tested[kind]):.2f}",
            f"{change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}]" if change else "",
        ))  # fmt: skip
    title = f"MNIST, 784-512-512-10, {arguments.epochs} epochs, {arguments.seeds} seeds"
    show(f"{title}; kinds of the last hidden weight, compared with full", cells,
         ["kind", "parameters", "held out, %", "rate", "alpha", "seconds", "times faster",
          "test, %", "difference, points (95 %)"])  # fmt: skip
    return {"trials": trials, "test": tested, "seconds": seconds}


def large(arguments: argparse.Namespace) -> Any:
    comm, n, rank = MPI.COMM_WORLD, arguments.rows, 20
    problem, held_out = random_table((n, n), rank, arguments.entries, comm)
    began = time.perf_counter()
    start = spectral_start(problem, rank)
    seconds_of_start = time.perf_counter() - began
    fits: dict[str, Callable[[Completion], Recovery]] = {
        "ours: staged, conjugate": lambda p: fit_scaled_gradient(p, rank, start=start, tol=1e-13),
        "least squares": lambda p: fit_least_squares(p, rank, start=start, tol=1e-13),
    }
    rows, records = [], []
    for name, fit in fits.items():
        one = fit(problem)
        local = np.repeat(np.arange(held_out.shape[0]), np.diff(held_out.indptr))
        errors = one.entries(local, held_out.indices) - held_out.data
        sums = comm.allreduce(np.array([errors @ errors, held_out.data @ held_out.data]))
        error, peak = float(np.sqrt(sums[0] / sums[1])), comm.allreduce(peak_bytes(), op=MPI.MAX)
        seconds = one.seconds["iterations"]
        shown = f"{seconds:.0f}" if error <= 1e-6 else f"({seconds:.0f})"
        rows.append((name, one.iterations, shown, f"{one.loss:.1e}", f"{error:.1e}",
                     f"{one.recovery_error:.1e}", f"{peak / 2**20:.0f}"))  # fmt: skip
        records.append(record(one, seconds) | {
            "method": name, "held_out_error": error, "peak_bytes_per_rank": peak,
            "seconds_of_start": seconds_of_start, "certified": start.certified,
            "largest_residual": float(start.residual_norms.max()), "ranks": comm.size,
            "entries": problem.n_measurements,
        })  # fmt: skip
    if comm.rank == 0:
        print(f"\nstart: {start.method}, {seconds_of_start:.1f} s, largest residual "
              f"{start.residual_norms.max():.1e}, {'certified' if start.certified else 'MISSED'}; "
              f"singular values {start.values[0]:.0f} to {start.values[-1]:.0f}, noise edge "
              f"{start.noise_edge:.0f}")  # fmt: skip
        show(f"Completion of {n:,} x {n:,}, rank {rank}, {problem.n_measurements:,} entries, "
             f"{comm.size} rank(s)", rows,
             ["method", "iterations", "seconds", "loss", "error of held-out entries",
              "error of the matrix", "peak MiB per rank"])  # fmt: skip
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--only", nargs="+", choices=SECTIONS, default=SECTIONS[:-2])
    counts = {"--seeds": 5, "--repeats": 3, "--threads": 1, "--epochs": 8, "--rows": 100_000}
    for name, count in counts.items():
        add(name, type=int, default=count)
    add("--json", type=Path)
    targets = ("dominant", "spread")
    add("--sensing-targets", nargs="+", choices=targets, default=targets)
    add("--ratings", type=Path, help="file of user, item, rating")
    add("--ratings-test", type=Path, help="its test entries; default: a tenth")
    add("--entries", type=int, default=100, help="seen entries of a row")
    add("--data-dir", type=Path, help="folder with mnist/, for mlp")
    add("--inner", type=int, help="order of the compressed weights of mlp; default: 20")
    arguments = parser.parse_args()
    if "mlp" in arguments.only and arguments.data_dir is None:
        parser.error("mlp needs --data-dir")
    if MPI.COMM_WORLD.size > 1 and set(arguments.only) != {"large"}:
        parser.error("several ranks are for --only large")
    records = {}
    with threadpool_limits(arguments.threads):
        for section in arguments.only:
            records[section] = globals()[section](arguments)
    if arguments.json and MPI.COMM_WORLD.rank == 0:
        arguments.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
