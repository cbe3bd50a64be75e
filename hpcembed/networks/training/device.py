"""The device of a training, and the global state of PyTorch around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from hpcembed.runtime.errors import ConfigError

__all__ = ["choose_device", "seeded_torch"]


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device of a training; auto: a GPU if there is one.

    Raises
    ------
    ConfigError
        cuda without a CUDA device.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("classifier.device: PyTorch finds no CUDA device; use auto or cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


@contextmanager
def seeded_torch(threads: int, seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch and set its threads within a block; both are restored afterwards.

    Modes of the caller do not apply within the block: gradients are recorded, and new tensors have
    single precision.
    """
    before, dtype = torch.get_num_threads(), torch.get_default_dtype()
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    modes = torch.inference_mode(False), torch.enable_grad()
    with torch.random.fork_rng(devices=devices), modes[0], modes[1]:
        torch.manual_seed(seed)
        torch.set_num_threads(max(1, threads))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            torch.set_default_dtype(dtype)
