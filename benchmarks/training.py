"""Time to train one compact network, or many together, and time of the same recipe in its peers.

    python benchmarks/training.py [--data-dir DATA] [--dimensions 50] [--hidden 32-32 64-64]
                                  [--together 10] [--epochs 15] [--repeats 5] [--threads 1]

Methods, one after the other in every repeat:

  DataLoader      plain PyTorch: TensorDataset, shuffling DataLoader, autograd, default AdamW
  single          hpcembed.networks.training.train_classifier
  stack of one    hpcembed.networks.training.train_batch with one network
  stack of N      the same with N networks: seconds for each of them
  MLPClassifier   scikit-learn with Adam and its defaults: seconds until it has the final validation
                  accuracy of `single` less 0.1 points; "-" if 100 epochs do not suffice

The first four have the same recipe (epochs, batch size, one-cycle AdamW, label smoothing) and the
same validation rows, and validate after every epoch. Inputs are the first components of MNIST
(--data-dir is the folder that contains mnist/), or of a synthetic set of that size without
--data-dir. Times are medians over the repeats, with the smallest and the largest. Nothing else
should run on the machine.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from hpcembed.networks.training.batched_training import Member, train_batch
from hpcembed.networks.training.classifier import build_mlp
from hpcembed.networks.training.gathered_training import train_classifier
from hpcembed.networks.training.input_scaling import fit_scaling
from hpcembed.networks.training.optimiser import learning_rate_at
from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.samples import Samples
from hpcembed.networks.training.validation_split import stratified_holdout
from miramns.bench.harness.tables import markdown_row, markdown_table

JOB = Path(__file__).resolve().parents[1] / "jobs" / "mnist.toml"
#: Most epochs of scikit-learn.
MOST_EPOCHS = 100
SEED = 0


def mnist(data_dir: Path, k: int) -> tuple[Samples, Samples]:
    from hpcembed.jobs.job import prepare
    from hpcembed.jobs.network_inputs import project
    from hpcembed.jobs.run import fit, read

    overrides = [f"embedding.n_components={k}", "solver.reference=false"]
    job = prepare(JOB, overrides, data_dir, None, MPI.COMM_WORLD)
    _, train, test = read(job)
    inputs = project(fit(job, train), train, test)
    labels = train.labels, test.labels
    train.destroy()
    test.destroy()
    return Samples(inputs[0], labels[0]), Samples(inputs[1], labels[1])


def synthetic(k: int) -> tuple[Samples, Samples]:
    rng = np.random.default_rng(0)
    deviations = 3.0 * 0.93 ** np.arange(k)
    centres = rng.standard_normal((10, 4, k)) * 0.8

    def make(n: int) -> Samples:
        labels, part = rng.integers(0, 10, n), rng.integers(0, 4, n)
        rows = (centres[labels, part] + rng.standard_normal((n, k))) * deviations
        return Samples(rows.astype(np.float32), labels)

    return make(60_000), make(10_000)


def data_loader(train: Samples, hidden: tuple[int, ...], recipe: Recipe) -> float:
    """Train by a plain loop; return the validation accuracy of the last epoch."""
    torch.manual_seed(SEED)
    kept, held = stratified_holdout(train.labels, recipe.validation_fraction, SEED)
    scaling = fit_scaling(train.inputs, "sqrt")
    rows = torch.from_numpy(((train.inputs - scaling.shift) * scaling.scale).astype(np.float32))
    labels = torch.from_numpy(train.labels)
    loader = DataLoader(TensorDataset(rows[kept], labels[kept]), recipe.batch_size, shuffle=True)
    model = build_mlp(rows.shape[1], hidden, 10)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    n_steps, step, accuracy = recipe.epochs * len(loader), 0, math.nan
    for _ in range(recipe.epochs):
        model.train()
        for x, y in loader:
            rate = learning_rate_at(step, n_steps, recipe.learning_rate, recipe.schedule)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad()
            loss = functional.cross_entropy(model(x), y, label_smoothing=recipe.label_smoothing)
            loss.backward()
            optimiser.step()
            step += 1
        model.eval()
        with torch.no_grad():
            accuracy = float((model(rows[held]).argmax(1) == labels[held]).float().mean())
    return accuracy


def scikit_learn(train: Samples, hidden: tuple[int, ...], recipe: Recipe, target: float) -> float:
    """Return the seconds until the validation accuracy is `target`; NaN if it stays below."""
    kept, held = stratified_holdout(train.labels, recipe.validation_fraction, SEED)
    scaling = fit_scaling(train.inputs, "sqrt")
    rows = ((train.inputs - scaling.shift) * scaling.scale).astype(np.float32)
    model = MLPClassifier(hidden, batch_size=recipe.batch_size, random_state=SEED)
    seconds = 0.0
    for _ in range(MOST_EPOCHS):
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.partial_fit(rows[kept], train.labels[kept], classes=np.arange(10))
        seconds += time.perf_counter() - began
        if model.score(rows[held], train.labels[held]) >= target:
            return seconds
    return math.nan


def timed(work: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def measure(
    train: Samples,
    test: Samples,
    hidden: tuple[int, ...],
    recipe: Recipe,
    arguments: argparse.Namespace,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the seconds of all methods in every repeat, and the accuracies of the last one."""
    k = train.inputs.shape[1]
    seconds: dict[str, list[float]] = {}
    accuracy: dict[str, float] = {}

    def batch(n: int):
        members = [Member(seed, k) for seed in range(n)]
        return train_batch(
            train, test, 10, hidden, recipe, members,
            input_name="embedded", threads=arguments.threads, device="cpu",
        )  # fmt: skip

    many = f"stack of {arguments.together}"
    for _ in range(arguments.repeats):
        took, found = timed(lambda: data_loader(train, hidden, recipe))
        seconds.setdefault("DataLoader", []).append(took)
        accuracy["DataLoader"] = found
        took, found = timed(
            lambda: train_classifier(
                train, test, 10, hidden, recipe,
                input_name="embedded", threads=arguments.threads, seed=SEED, device="cpu",
            )
        )  # fmt: skip
        seconds.setdefault("single", []).append(took)
        accuracy["single"] = found.report.validation_accuracy
        for name, n in (("stack of one", 1), (many, arguments.together)):
            took, found = timed(lambda n=n: batch(n))
            seconds.setdefault(name, []).append(took / n)
            values = [one.validation_accuracy for one in found.results]
            accuracy[name] = statistics.mean(values)
        target = accuracy["single"] - 0.001
        seconds.setdefault("MLPClassifier", []).append(scikit_learn(train, hidden, recipe, target))
    return seconds, accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data-dir", type=Path)
    add("--dimensions", type=int, default=50)
    add("--hidden", nargs="+", default=["32-32", "64-64", "512-512"])
    add("--together", type=int, default=10)
    add("--epochs", type=int, default=15)
    add("--batch-size", type=int, default=256)
    add("--repeats", type=int, default=5)
    add("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    k = arguments.dimensions
    train, test = mnist(arguments.data_dir, k) if arguments.data_dir else synthetic(k)
    recipe = Recipe(epochs=arguments.epochs, batch_size=arguments.batch_size, learning_rate=3e-3)
    print(
        f"{len(train.labels):,} rows of {k} inputs, {recipe.epochs} epochs of batches of "
        f"{recipe.batch_size}, {arguments.threads} thread(s), {arguments.repeats} repeats"
    )
    headings = ["hidden", "method", "seconds", "range", "DataLoader / method", "validation %"]
    print("\n".join(markdown_table(headings, [], numbers_from=2)))
    for text in arguments.hidden:
        hidden = tuple(map(int, text.split("-")))
        seconds, accuracy = measure(train, test, hidden, recipe, arguments)
        plain = statistics.median(seconds["DataLoader"])
        for name, values in seconds.items():
            reached = [value for value in values if math.isfinite(value)]
            if len(reached) < len(values):
                reason = f"not reached in {MOST_EPOCHS} epochs"
                print(markdown_row([text, name, "-", reason, "-", "-"]), flush=True)
                continue
            middle = statistics.median(values)
            quality = f"{100 * accuracy[name]:.2f}" if name in accuracy else "as single - 0.1"
            spread = f"{min(values):.2f}-{max(values):.2f}"
            cells = [text, name, f"{middle:.2f}", spread, f"{plain / middle:.2f}", quality]
            print(markdown_row(cells), flush=True)


if __name__ == "__main__":
    main()
