"""Training of MNIST classifiers in random subspaces: least dimension, and time of projections.

    python benchmarks/intrinsic_training.py mnist --data-dir DATA [--network fc|lenet]
        [--rows 60000] [--epochs 100] [--grid 100 200 ...] [--seeds 1] [--baseline 1.0]
        [--learning-rate 1e-3] [--projection srht|fastfood|dense] [--trials FILE.jsonl]
    python benchmarks/intrinsic_training.py products [--parameters 4096 ...] [--dimensions 512]

mnist: least dimension of a random subspace in which the network reaches 90 % of the baseline on
the test images, by bisection over the grid. Networks and recipe of Li et al. (ICLR 2018): 784-200-
200-10 with 199,210 parameters or LeNet with 44,426; Adam, batches of 128, factor 1e-5 of the
squared weights, 100 epochs. Published with baseline 1: 750 and 290. The defaults take hours. With
--trials, each finished training is appended to a file, and those of a file are not repeated.

products: seconds of one product with P and one with its transpose, as a training step needs them.
Each answer is compared with the matrix of the projection.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import torch
from reference_models.lenet import load_mnist
from torch import nn

from hpcembed.networks.random_subspaces import (
    PROJECTIONS,
    SubspaceTrial,
    make_projection,
    random_subspace_dimension,
)
from hpcembed.networks.training.classifier import build_mlp
from miramns.bench.harness.tables import markdown_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("mnist", "products"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--network", choices=("fc", "lenet"), default="fc")
    parser.add_argument("--rows", type=int, default=60000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--grid", type=int, nargs="+", default=list(range(50, 1550, 50)))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--baseline", type=float, help="default: measured")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--projection", choices=PROJECTIONS, default="srht")
    parser.add_argument("--parameters", type=int, nargs="+", default=[4096, 44426, 199210])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[256, 750])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--trials", type=Path)
    arguments = parser.parse_args()
    if arguments.part == "products":
        products(arguments)
        return
    if arguments.data_dir is None:
        parser.error("mnist needs --data-dir")
    mnist(arguments)


def lenet() -> nn.Module:
    """LeNet of the paper: 44,426 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84),
        nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def mnist(arguments: argparse.Namespace) -> None:
    flat = arguments.network == "fc"

    def part(which: str, count: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = load_mnist(arguments.data_dir / "mnist", which)
        scaled = images[:count].float() / 255
        return scaled.flatten(1) if flat else scaled, labels[:count]

    rows, labels = part("train", arguments.rows)
    recipe = {"epochs": arguments.epochs, "learning_rate": arguments.learning_rate,
              "projection": arguments.projection}  # fmt: skip
    key = recipe | {"network": arguments.network, "rows": len(labels)}
    found = random_subspace_dimension(
        (lambda: build_mlp(784, (200, 200), 10)) if flat else lenet, rows, labels, part("test"),
        grid=arguments.grid, baseline=arguments.baseline, seeds=range(arguments.seeds),
        finished=finished_trials(arguments.trials, key), weight_decay=1e-5, **recipe,
        on_trial=lambda trial: store_trial(arguments.trials, key, trial),
    )  # fmt: skip
    trials = [
        [one.dimension or "all", one.seed, f"{one.accuracy:.4f}", f"{one.seconds:.0f}"]
        for one in found.trials
    ]
    headings = ["dimension", "seed", "test accuracy", "seconds"]
    print("\n".join(markdown_table(headings, trials, numbers_from=0)))
    print(
        f"\n{arguments.network}, {found.n_parameters:,} parameters, {len(labels):,} rows, "
        f"{arguments.epochs} epochs, {arguments.projection}: least dimension {found.dimension} "
        f"(threshold {found.threshold:.4f}, {found.below} misses it)",
        flush=True,
    )


def finished_trials(path: Path | None, key: dict[str, object]) -> list[SubspaceTrial]:
    """Return the trainings in a file that have the same recipe."""
    if path is None or not path.exists():
        return []
    lines = map(json.loads, path.read_text().splitlines())
    return [SubspaceTrial(**line["trial"]) for line in lines if line["recipe"] == key]


def store_trial(path: Path | None, key: dict[str, object], trial: SubspaceTrial) -> None:
    print(f"dimension {trial.dimension}, seed {trial.seed}: {trial.accuracy:.4f}", flush=True)
    if path is not None:
        with path.open("a") as file:
            line = {"recipe": key, "trial": dataclasses.asdict(trial)}
            file.write(json.dumps(line) + "\n")


def products(arguments: argparse.Namespace) -> None:
    table = []
    for D in arguments.parameters:
        for d in arguments.dimensions:
            if d > D:
                continue
            maps = {kind: make_projection(D, d, kind) for kind in PROJECTIONS}
            seconds: dict[str, list[float]] = {kind: [] for kind in PROJECTIONS}
            gradient = torch.randn(D)
            for _ in range(arguments.repeats):
                for kind, projection in maps.items():
                    x = torch.randn(d, requires_grad=True)
                    began = time.perf_counter()
                    y = projection(x)
                    y.backward(gradient)
                    seconds[kind].append(time.perf_counter() - began)
                    check(kind, projection, x, y, gradient)
            median = {kind: 1e3 * statistics.median(each) for kind, each in seconds.items()}
            table.append([
                f"{D:,}", d, *(f"{median[kind]:.2f}" for kind in PROJECTIONS),
                f"{median['dense'] / median['srht']:.1f}",
                f"{median['dense'] / median['fastfood']:.1f}",
            ])  # fmt: skip
    headings = ["parameters", "dimension", *(f"{kind}, ms" for kind in PROJECTIONS),
                "dense / srht", "dense / fastfood"]  # fmt: skip
    print("\n".join(markdown_table(headings, table, numbers_from=0)))


def check(
    kind: str, projection: object, x: torch.Tensor, y: torch.Tensor, gradient: torch.Tensor
) -> None:
    """End the script unless <P x, g> = <x, P'g>, and column 0 has unit length."""
    left, right = float(y.detach() @ gradient), float(x.detach() @ x.grad)
    unit = torch.zeros_like(x)
    unit[0] = 1
    length = float(projection(unit).detach().norm())
    scale = float(y.detach().norm() * gradient.norm())
    if not abs(left - right) <= 1e-4 * scale or not 0.5 < length < 1.5:
        raise SystemExit(f"{kind}: wrong product, {left} and {right}, length {length}")


if __name__ == "__main__":
    main()
