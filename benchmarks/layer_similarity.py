"""Layers of networks on all features compared with those of networks on k principal components.

    OMP_NUM_THREADS=1 python benchmarks/layer_similarity.py [--data digits|mnist] [--data-dir DATA]
        [--components 5 10 20 40] [--hidden 64 64] [--seeds 5] [--out FILE.json]

Linear CKA of layers at equal places, and SVCCA and PWCCA of the last hidden layer, for the test
rows (2,000 of MNIST, whose training rows are the first 10,000). The first line compares networks on
all features that differ in their seed alone: two networks on equal inputs are no more similar than
that. The other lines compare networks on all features with networks on k components of the same
seed. Means over the seeds, with standard deviations of CKA.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from hpcembed import PCA, layer_similarity, pwcca, svcca
from hpcembed.networks.similarity.activations import layer_activations
from hpcembed.networks.training.gathered_training import train_classifier
from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.samples import Samples
from miramns.bench.harness.tables import markdown_table

Part = tuple[NDArray[np.float64], NDArray[np.int64]]
Activations = dict[str, NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--components", type=int, nargs="+", default=[5, 10, 20, 40])
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    parts = digits() if arguments.data == "digits" else mnist(arguments.data_dir)
    hidden, seeds = tuple(arguments.hidden), range(arguments.seeds)
    # one seed more: each network is compared with the one of the next seed
    full = [trained(parts, hidden, seed, "full") for seed in range(arguments.seeds + 1)]
    records = [compared("all features, other seed", full[:-1], full[1:])]
    for k in arguments.components:
        pca = PCA(k).fit(parts[0][0])
        projected = [(pca.transform(rows), labels) for rows, labels in parts]
        embedded = [trained(projected, hidden, seed, "embedded") for seed in seeds]
        records.append(compared(f"k = {k}", full[:-1], embedded))
    print(table(records))
    if arguments.out:
        arguments.out.write_text(json.dumps(records, indent=1))


def digits() -> list[Part]:
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    rows, labels = data.data[order] / 16, data.target[order].astype(np.int64)
    return [(rows[:1438], labels[:1438]), (rows[1438:], labels[1438:])]


def mnist(folder: Path) -> list[Part]:
    parts = []
    for name, n in (("train", 10_000), ("t10k", 2_000)):
        with gzip.open(folder / "mnist" / f"{name}-images-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(16 + 784 * n), dtype=np.uint8, offset=16)
        with gzip.open(folder / "mnist" / f"{name}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(8 + n), dtype=np.uint8, offset=8)
        parts.append((pixels.reshape(n, 784) / 255, labels.astype(np.int64)))
    return parts


def trained(
    parts: list[Part], hidden: tuple[int, ...], seed: int, name: Any
) -> tuple[Activations, float]:
    """Train a network; return the activations of its layers for the test rows, and its accuracy."""
    train, test = (Samples(*part) for part in parts)
    settings: dict[str, Any] = {"input_name": name, "threads": 1, "seed": seed}
    one = train_classifier(train, test, 10, hidden, Recipe(), **settings)
    rows = np.arange(len(test.labels))
    return layer_activations(one.model, test.array, rows), one.report.test_accuracy


def compared(
    title: str,
    first: list[tuple[Activations, float]],
    second: list[tuple[Activations, float]],
) -> dict[str, Any]:
    pairs = [(x, y) for (x, _), (y, _) in zip(first, second, strict=True)]
    cka = np.array([np.diagonal(layer_similarity(x, y).cka) for x, y in pairs])
    last = list(pairs[0][0])[-2]
    return {
        "compared with": title,
        "accuracy": float(np.mean([accuracy for _, accuracy in second])),
        "cka": dict(zip(pairs[0][0], cka.mean(axis=0).tolist(), strict=True)),
        "cka_deviation": dict(zip(pairs[0][0], cka.std(axis=0, ddof=1).tolist(), strict=True)),
        "svcca": float(np.mean([svcca(x[last], y[last]).similarity for x, y in pairs])),
        "pwcca": float(np.mean([pwcca(x[last], y[last]).similarity for x, y in pairs])),
    }


def table(records: list[dict[str, Any]]) -> str:
    layers = list(records[0]["cka"])
    lines = [
        [
            one["compared with"],
            f"{100 * one['accuracy']:.1f}",
            *(f"{one['cka'][name]:.2f} ± {one['cka_deviation'][name]:.2f}" for name in layers),
            f"{one['svcca']:.2f}",
            f"{one['pwcca']:.2f}",
        ]
        for one in records
    ]
    headings = ["network", "test %", *(f"CKA, {name}" for name in layers), "SVCCA", "PWCCA"]
    return "\n".join(markdown_table(headings, lines, numbers_from=1))


if __name__ == "__main__":
    main()
