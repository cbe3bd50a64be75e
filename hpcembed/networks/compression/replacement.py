"""Replacement of layers by sequences of plain modules of torch.

A replaced layer is an ``nn.Sequential`` of two or three modules of the layer's own kind: reduction
(no bias), kernel, expansion. Its state is in ``state_dict`` as of any other model, and exporters
see nothing new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcembed.networks.compression.layers import is_convolution

__all__ = ["parent_and_attribute", "replace_module", "sequence_of"]

Matrix = NDArray[np.float64]


def parent_and_attribute(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that holds `name`, and its attribute.

    Examples
    --------
    >>> from torch import nn
    >>> parent, attribute = parent_and_attribute(nn.Sequential(nn.ReLU()), "0")
    >>> attribute
    '0'
    """
    parent, _, attribute = name.rpartition(".")
    return model.get_submodule(parent), attribute


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` in the place of a module, under every name that it has."""
    old = model.get_submodule(name)
    for parent in list(model.modules()):
        # `named_children` leaves out the second name of a module.
        for attribute, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, attribute, new)


def sequence_of(
    module: Any, matrices: Sequence[Tensor | None], bias: Tensor | None
) -> nn.Sequential:
    """Return the modules of one layer's replacement.

    Parameters
    ----------
    module : nn.Module
        The layer.
    matrices : three of Tensor or None
        Weights of reduction, kernel and expansion, in double precision, outputs first; without the
        dimensions of the kernel for the first and the last one.
    bias : Tensor or None
        Bias of the last module.
    """
    parts = [matrix for matrix in matrices if matrix is not None]
    new: list[nn.Module] = []
    for matrix, place in zip(parts, _places(matrices), strict=True):
        last = len(new) == len(parts) - 1
        with_bias = bias if last else None
        if is_convolution(module):
            new.append(_convolution(module, matrix, with_bias, is_kernel=place == 1))
        else:
            new.append(_linear(matrix, with_bias))
    sequence = nn.Sequential(*new).to(module.weight.device, module.weight.dtype)
    for parameter in sequence.parameters():
        parameter.requires_grad_(module.weight.requires_grad)
    return sequence.train(module.training)


def _places(matrices: Sequence[Tensor | None]) -> list[int]:
    return [place for place, matrix in enumerate(matrices) if matrix is not None]


def _linear(matrix: Tensor, bias: Tensor | None) -> nn.Linear:
    new = torch.nn.utils.skip_init(
        nn.Linear, matrix.shape[1], matrix.shape[0], bias=bias is not None, dtype=matrix.dtype
    )
    _set(new, matrix, bias)
    return new


def _convolution(module: Any, matrix: Tensor, bias: Tensor | None, *, is_kernel: bool) -> Any:
    kind: Any = nn.Conv2d if isinstance(module, nn.Conv2d) else nn.Conv1d
    places = module.weight.ndim - 2
    if not is_kernel:
        matrix = matrix.reshape(*matrix.shape[:2], *[1] * places)
    settings = (
        {"stride": module.stride, "padding": module.padding, "dilation": module.dilation}
        if is_kernel
        else {}
    )
    new = torch.nn.utils.skip_init(
        kind, matrix.shape[1] * module.groups, matrix.shape[0], tuple(matrix.shape[2:]),
        groups=module.groups, bias=bias is not None, dtype=matrix.dtype, **settings,
    )  # fmt: skip
    _set(new, matrix, bias)
    return new


def _set(new: Any, matrix: Tensor, bias: Tensor | None) -> None:
    with torch.no_grad():
        new.weight.copy_(matrix)
        if bias is not None:
            new.bias.copy_(bias)
