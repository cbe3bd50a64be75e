"""ResNet-20 and ResNet-56 for CIFAR-10, their trained weights, and the images.

The networks of He et al. (arXiv 1512.03385, section 4.2) with shortcuts without parameters (option
A): a strided slice, and zeros for the new channels. The weights are those of Yerlan Idelbayev
(github.com/akamaster/pytorch_resnet_cifar10, BSD 2-Clause). The images are the binary version of
CIFAR-10 (https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpcembed.runtime.errors import InputError

__all__ = ["BasicBlock", "CifarResNet", "accuracy", "load_cifar10", "load_resnet", "normalise"]

#: Means and standard deviations of the channels of ImageNet, as in the training of the weights.
CHANNEL_MEANS = (0.485, 0.456, 0.406)
CHANNEL_DEVIATIONS = (0.229, 0.224, 0.225)

#: Bytes of a record: a label, then 32 x 32 pixels of red, green and blue.
RECORD_BYTES = 1 + 3 * 32 * 32


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm, and a shortcut without parameters.

    Parameters
    ----------
    in_channels, channels : int
        Channels of the input and of the output.
    stride : int, default 1
        Stride of the first convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Output of shape (n, channels, height / stride, width / stride)."""
        shortcut = x
        if self.stride != 1:
            shortcut = shortcut[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            before = self.new_channels // 2
            after = self.new_channels - before
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, before, after))
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + shortcut)


class CifarResNet(nn.Module):
    """Residual network of 6 n + 2 layers for images of 32 x 32 pixels.

    Parameters
    ----------
    blocks : int
        n, the number of blocks of each of the three stages: 3 for ResNet-20, 9 for ResNet-56.
    classes : int, default 10

    Examples
    --------
    >>> import torch
    >>> network = CifarResNet(3)
    >>> sum(p.numel() for p in network.parameters())
    269722
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, classes) of normalised images of shape (n, 3, 32, 32)."""
        x = functional.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))


def load_resnet(path: Path | str) -> CifarResNet:
    """Trained network of a checkpoint, in evaluation mode.

    Parameters
    ----------
    path : path
        File of `torch.save` with ``{"state_dict": ...}``. The number of blocks follows from the
        keys. A prefix ``module.`` of the keys is removed.

    Raises
    ------
    InputError
        The file does not contain the weights of a residual network of this type.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(f"{path}: no state_dict in the checkpoint: name a ResNet of CIFAR-10")
    weights = {key.removeprefix("module."): w for key, w in checkpoint["state_dict"].items()}
    blocks = len({key.split(".")[1] for key in weights if key.startswith("layer1.")})
    network = CifarResNet(blocks)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not a ResNet of CIFAR-10 ({line}): name another file") from error
    return network.eval()


def load_cifar10(folder: Path | str, which: str = "train") -> tuple[Tensor, Tensor]:
    """Images and labels of the binary version of CIFAR-10, in the order of the files.

    Parameters
    ----------
    folder : path
        Folder with ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``.
    which : {"train", "test"}

    Returns
    -------
    images : Tensor of uint8, shape (n, 3, 32, 32)
    labels : Tensor of int64, shape (n,)

    Raises
    ------
    InputError
        The size of a file is not a multiple of 3,073 bytes.
    """
    if which not in ("train", "test"):
        raise ValueError(f'which must be "train" or "test", not {which!r}')
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if which == "train" else ["test_batch.bin"]
    batches = [_records(Path(folder) / name) for name in names]
    records = np.concatenate(batches)
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    return images, torch.from_numpy(records[:, 0].astype(np.int64))


def _records(path: Path) -> npt.NDArray[np.uint8]:
    values = np.fromfile(path, dtype=np.uint8)
    if values.size == 0 or values.size % RECORD_BYTES:
        raise InputError(
            f"{path}: {values.size} bytes are not records of {RECORD_BYTES} bytes: "
            "download the binary version of CIFAR-10 again"
        )
    return values.reshape(-1, RECORD_BYTES)


def normalise(images: Tensor) -> Tensor:
    """Input of the network: float32 of shape (n, 3, 32, 32), scaled by channel."""
    means = torch.tensor(CHANNEL_MEANS).view(1, 3, 1, 1)
    deviations = torch.tensor(CHANNEL_DEVIATIONS).view(1, 3, 1, 1)
    return (images.to(torch.float32) / 255 - means) / deviations


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 500) -> float:
    """Percentage of images, uint8 and not normalised, that the network classifies correctly."""
    correct = 0
    for start in range(0, len(labels), batch_size):
        rows = slice(start, start + batch_size)
        classes = network(normalise(images[rows])).argmax(dim=1)
        correct += int((classes == labels[rows]).sum())
    return 100 * correct / len(labels)
