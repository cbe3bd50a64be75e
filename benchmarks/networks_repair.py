"""Compressed networks after a short repair: ResNet-20, ResNet-56 and LeNet5.

    python benchmarks/networks_repair.py resnet20 --data-dir DATA --models-dir MODELS
        [--budget parameters=0.5] [--epochs 3] [--seeds 5] [--json FILE]
    python benchmarks/networks_repair.py lenet --data-dir DATA --models-dir CACHE
        --budget parameters=0.0301 --epochs 10

The network is compressed with 2,000 training images; the repair matches the outputs of the network
itself on the training images, shifted and mirrored at random (LeNet5: shifted by one pixel),
without labels. The learning rate is the one of the least divergence on held-out training images
after one epoch of a fifth of them; test images are read once per network.

LeNet5 is trained first, for four epochs, and kept in the folder of `--models-dir`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference_models import lenet, resnet
from torch import Tensor, nn

from hpcembed.networks.compression import ModelCompression, Request, Settings
from hpcembed.networks.paired_intervals import paired

HELD_OUT = 5000
CALIBRATION = 2000
RATES = (3e-4, 5e-4, 1e-3)
BATCH = 64


class AugmentedBatches:
    """Batches of images that are shifted, and mirrored on request, anew in every epoch."""

    def __init__(
        self, images: Tensor, normalise: Any, *, size: int, shift: int, mirror: bool, seed: int
    ) -> None:
        self._images, self._normalise = images, normalise
        self._size, self._shift, self._mirror = size, shift, mirror
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._images) // self._size

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self._images), generator=self._generator)
        for rows in order.split(self._size)[: len(self)]:
            moved = self._shifted(self._images[rows])
            if self._mirror:
                flipped = torch.rand(len(rows), generator=self._generator) < 0.5
                moved[flipped] = moved[flipped].flip(3)
            yield self._normalise(moved)

    def _shifted(self, images: Tensor) -> Tensor:
        """Shift each image by random numbers of pixels; black pixels enter."""
        n, channels, height, width = images.shape
        padded = nn.functional.pad(images, [self._shift] * 4)
        starts = torch.randint(0, 2 * self._shift + 1, (2, n, 1), generator=self._generator)
        rows = (starts[0] + torch.arange(height))[:, None, :, None]
        columns = (starts[1] + torch.arange(width))[:, None, None, :]
        return padded[torch.arange(n)[:, None, None, None],
                      torch.arange(channels)[None, :, None, None], rows, columns]  # fmt: skip


def task(arguments: argparse.Namespace) -> tuple[nn.Module, Tensor, tuple[Tensor, Tensor], Any]:
    """Return the network, training images, the test set and the normalisation."""
    if arguments.network == "lenet":
        images, labels = lenet.load_mnist(arguments.data_dir / "mnist", "train")
        model = lenet.cached_lenet(arguments.models_dir, images, labels, seed=0)
        return model.eval(), images, lenet.load_mnist(arguments.data_dir / "mnist", "test"), lenet
    name = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}
    model = resnet.load_resnet(arguments.models_dir / name[arguments.network]).eval()
    images, _ = resnet.load_cifar10(arguments.data_dir / "cifar10", "train")
    return model, images, resnet.load_cifar10(arguments.data_dir / "cifar10", "test"), resnet


def repaired(
    model: nn.Module, images: Tensor, module: Any, arguments: argparse.Namespace, seed: int,
    rate: float, epochs: int,
) -> tuple[nn.Module, Any]:  # fmt: skip
    """Return the network of one budget after `epochs` of repair."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    training, held_out = images[order[HELD_OUT:]], images[order[:HELD_OUT]]
    batches = AugmentedBatches(
        training if epochs == arguments.epochs else training[: len(training) // 5],
        module.normalise, size=BATCH, shift=1 if arguments.network == "lenet" else 4,
        mirror=arguments.network != "lenet", seed=seed,
    )  # fmt: skip
    compression = ModelCompression(
        model, module.normalise(training[:CALIBRATION]).split(250),
        settings=Settings(
            metric="divergence", repair="distill", epochs=epochs, learning_rate=rate, seed=seed
        ),
        validation=module.normalise(held_out).split(500), repair_batches=batches,
    )  # fmt: skip
    measure, share = arguments.budget.split("=")
    return compression.compress(Request(budget={measure: float(share)}))


def main() -> None:
    """Run one network and budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=("resnet20", "resnet56", "lenet"))
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--budget", default="parameters=0.5")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rate", type=float, help="learning rate (default: chosen)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model, images, test, module = task(arguments)
    rate = arguments.rate
    if rate is None:
        losses = {r: repaired(model, images, module, arguments, 1000, r, 1)[1].loss for r in RATES}
        rate = min(losses, key=lambda r: losses[r])
        print("divergence on held-out training images by learning rate:", losses, flush=True)
    before = module.accuracy(model, *test)
    records = []
    for seed in range(arguments.seeds):
        began = time.perf_counter()
        small, report = repaired(model, images, module, arguments, seed, rate, arguments.epochs)
        records.append(
            {
                "network": arguments.network, "budget": arguments.budget, "seed": seed,
                "rate": rate, "epochs": arguments.epochs, "before": before,
                "after": module.accuracy(small, *test), "parameters": report.after.parameters,
                "macs": report.after.macs, "divergence": report.loss,
                "seconds": time.perf_counter() - began,
            }
        )  # fmt: skip
        print(records[-1], flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(records, indent=1))
    after = [record["after"] for record in records]
    print(f"{arguments.network}, {arguments.budget}: {before:.2f} -> {np.mean(after):.2f} %")
    difference = paired(after, [before] * len(after))
    if difference:
        print(f"change {difference.mean:+.2f} [{difference.low:.2f}, {difference.high:.2f}]")


if __name__ == "__main__":
    main()
