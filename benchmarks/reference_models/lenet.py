"""LeNet5 on MNIST, trained here: the network of the comparisons with DLRT.

Two convolutions of 5 x 5 (20 and 50 channels), each followed by ReLU and max pooling, a layer of
500 units, and 10 logits (Schotthoefer et al., Low-rank lottery tickets, arXiv 2205.13571). The
weight matrices have 430,500 elements, which is the size that DLRT's tables name; there are 580
biases beside them. MNIST is read from its IDX files (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from hpcembed.data.arrays.idx import open_idx
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.output.files import write_whole

__all__ = ["LeNet5", "accuracy", "cached_lenet", "load_mnist", "normalise", "train_lenet"]

#: Mean and standard deviation of the training pixels, divided by 255.
PIXEL_MEAN, PIXEL_DEVIATION = 0.1307, 0.3081


class LeNet5(nn.Module):
    """Convolutional network 20-50-500-10 for images of 28 x 28 pixels.

    Examples
    --------
    >>> import torch
    >>> network = LeNet5()
    >>> sum(w.numel() for w in network.parameters() if w.dim() > 1)
    430500
    >>> network(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.linear1 = nn.Linear(50 * 4 * 4, 500)
        self.linear2 = nn.Linear(500, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, classes) of normalised images of shape (n, 1, 28, 28)."""
        x = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        logits: Tensor = self.linear2(functional.relu(self.linear1(x.flatten(1))))
        return logits


def load_mnist(folder: Path | str, which: str = "train") -> tuple[Tensor, Tensor]:
    """Images and labels of the IDX files, plain or gzipped, in the order of the files.

    Parameters
    ----------
    folder : path
        Folder with ``train-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte`` etc., each plain or
        with the ending ``.gz``.
    which : {"train", "test"}

    Returns
    -------
    images : Tensor of uint8, shape (n, 1, 28, 28)
    labels : Tensor of int64, shape (n,)

    Raises
    ------
    InputError
        A file is missing or is not the IDX file of its name.
    """
    if which not in ("train", "test"):
        raise ValueError(f'which must be "train" or "test", not {which!r}')
    prefix = "train" if which == "train" else "t10k"
    images = _idx_values(Path(folder), f"{prefix}-images-idx3-ubyte")
    labels = _idx_values(Path(folder), f"{prefix}-labels-idx1-ubyte")
    if len(images) != len(labels) or images.shape[1:] != (784,):
        raise InputError(
            f"{folder}: {len(images)} {which} images of {images.shape[1]} pixels and "
            f"{len(labels)} labels: download MNIST again"
        )
    rows = torch.from_numpy(images).view(-1, 1, 28, 28)
    return rows, torch.from_numpy(labels[:, 0].astype(np.int64))


def _idx_values(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    path = next((folder / n for n in (name, f"{name}.gz") if (folder / n).exists()), None)
    if path is None:
        raise InputError(f"{folder / name}[.gz]: no such file: name the folder with MNIST")
    array = open_idx(path)
    return np.vstack(list(array.blocks(0, array.shape[0])), dtype=np.uint8)


def normalise(images: Tensor) -> Tensor:
    """Input of the network: float32 of the shape of `images`, (n, 1, 28, 28)."""
    return (images.to(torch.float32) / 255 - PIXEL_MEAN) / PIXEL_DEVIATION


def train_lenet(
    images: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    epochs: int = 4,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
) -> LeNet5:
    """Train a network by Adam with a learning rate that follows half a cosine to zero.

    Parameters
    ----------
    images, labels : Tensor
        As returned by :func:`load_mnist`.
    seed : int, default 0
        Seed of the weights and of the order of the rows. The state of torch's global generator is
        the same before and after.
    epochs, batch_size : int
    learning_rate : float
        Of the first step.

    Returns
    -------
    LeNet5
        In evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LeNet5()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    steps = epochs * math.ceil(len(labels) / batch_size)
    step = 0
    for _ in range(epochs):
        order = torch.randperm(len(labels), generator=generator)
        for start in range(0, len(labels), batch_size):
            rows = order[start : start + batch_size]
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
            optimiser.zero_grad()
            loss = functional.cross_entropy(network(normalise(images[rows])), labels[rows])
            torch.autograd.backward([loss])
            optimiser.step()
            step += 1
    return network.eval()


def cached_lenet(
    cache: Path | str, images: Tensor, labels: Tensor, *, seed: int = 0, epochs: int = 4
) -> LeNet5:
    """Network of :func:`train_lenet`, read from a folder if it was trained before.

    Parameters
    ----------
    cache : path
        Folder for ``lenet5-SEED-EPOCHS-HASH.safetensors``; created if missing. HASH is that of the
        images and labels.
    images, labels, seed, epochs
        As in :func:`train_lenet`.
    """
    digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()[:12]
    path = Path(cache) / f"lenet5-{seed}-{epochs}-{digest}.safetensors"
    if path.exists():
        network = LeNet5()
        network.load_state_dict(load_file(path))
        return network.eval()
    network = train_lenet(images, labels, seed=seed, epochs=epochs)
    write_whole(path, save(network.state_dict()))
    return network


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 1000) -> float:
    """Percentage of images, uint8 and not normalised, that the network classifies correctly."""
    correct = 0
    for start in range(0, len(labels), batch_size):
        rows = slice(start, start + batch_size)
        classes = network(normalise(images[rows])).argmax(dim=1)
        correct += int((classes == labels[rows]).sum())
    return 100 * correct / len(labels)
