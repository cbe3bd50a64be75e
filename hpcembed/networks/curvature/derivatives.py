"""Derivatives of torch models: parts that products share, and failures as one line."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hpcembed.runtime.errors import HpcembedError, InputError, error_text
from hpcembed.runtime.machine.memory import is_memory_error, memory_error

__all__ = [
    "check_graph",
    "copied_model",
    "derivative",
    "differentiable",
    "flat",
    "readable_failures",
    "returned_values",
]


@contextmanager
def differentiable() -> Iterator[None]:
    """Record graphs in the block, also within ``no_grad`` or ``inference_mode`` of the caller.

    Attention is computed by its formula: the fused kernel of PyTorch has no second derivative.
    """
    was_fused = torch.backends.cuda.flash_sdp_enabled()  # of the CPU as well
    torch.backends.cuda.enable_flash_sdp(False)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.backends.cuda.enable_flash_sdp(was_fused)


@contextmanager
def returned_values(model: nn.Module) -> Iterator[list[int]]:
    """Provide the number of values that each layer returns in the block."""
    counts: list[int] = []

    def count(_module: nn.Module, _inputs: Any, output: Any) -> None:
        counts.append(output.numel() if isinstance(output, Tensor) else 0)

    handles = [one.register_forward_hook(count) for one in model.modules()]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def readable_failures(matrix: str) -> Iterator[None]:
    """Raise failures inside a model or a loss, which are code of the user, as one line."""
    try:
        yield
    except HpcembedError:
        raise
    except Exception as error:
        if is_memory_error(error):
            raise memory_error(error) from error
        raise InputError(
            f"the model or the loss failed for the {matrix} matrix: {error_text(error)}; check the "
            "shapes and types of rows and labels, and that all operations have derivatives"
        ) from error


def copied_model(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of the model on the CPU, in a precision and in evaluation mode."""
    try:
        copied = copy.deepcopy(model)
    except RuntimeError as error:
        raise InputError(
            f"the model cannot be copied: {' '.join(str(error).split())}; detach its tensors"
        ) from error
    return copied.cpu().to(dtype).eval()


def derivative(values: list[Tensor], variables: list[Any], weights: list[Tensor]) -> list[Tensor]:
    """Return the derivatives of a weighted sum; values without a graph are constants."""
    pairs = [
        (one, weight) for one, weight in zip(values, weights, strict=True) if one.requires_grad
    ]
    if not pairs:
        return [torch.zeros_like(one) for one in variables]
    moving, kept = zip(*pairs, strict=True)
    return list(
        torch.autograd.grad(moving, variables, kept, retain_graph=True, materialize_grads=True)
    )


def check_graph(values: list[Tensor]) -> None:
    """Raise InputError if values depend on an operation that has no further derivative.

    PyTorch marks such values (``once_differentiable``) by a node of its own, and their derivatives
    would silently be zero.
    """
    left: list[Any] = [one.grad_fn for one in values]
    seen: set[Any] = set()
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::Error":
            raise InputError(
                "an operation of the model or the loss can be differentiated once only: replace "
                "it, or give it a second derivative"
            )
        left += [following for following, _ in node.next_functions]


def flat(parts: list[Tensor]) -> Tensor:
    """Return the entries of all tensors in one vector."""
    return torch.cat([one.reshape(-1) for one in parts])
