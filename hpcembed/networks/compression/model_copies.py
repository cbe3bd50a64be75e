"""Copies of a torch model: one to work on, and one for each of many passes at a time.

A model may keep tensors of its latest call, as attributes. Those belong to a graph of gradients and
cannot be copied by ``copy.deepcopy``; the copies here hold their values.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from hpcembed.networks.compression.batches import tensor_bytes
from hpcembed.runtime.errors import ConfigError, error_text

__all__ = [
    "copy_model", "keeps_tensors", "restore_gradients", "structure_copy", "weights_hash",
    "working_copy",
]  # fmt: skip


def copy_model(model: nn.Module) -> nn.Module:
    """Return a deep copy; tensors of a graph of gradients are copied by their values.

    Raises
    ------
    ConfigError
        If ``copy.deepcopy`` refuses the model.
    """
    memo: dict[int, Any] = {
        id(tensor): tensor.detach().clone() for tensor in _kept_tensors(model) if not tensor.is_leaf
    }
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # of the user's code
        raise ConfigError(
            f"model: it cannot be copied by copy.deepcopy: {error_text(error)}"
        ) from error


def structure_copy(model: nn.Module) -> nn.Module:
    """Return a copy with modules of its own, which shares the parameters and buffers."""
    shared = (*model.parameters(), *model.buffers(), *_kept_tensors(model))
    memo: dict[int, Any] = {id(tensor): tensor for tensor in shared}
    return copy.deepcopy(model, memo)


def keeps_tensors(model: nn.Module) -> bool:
    """Return True if a module has tensors other than parameters and buffers as attributes."""
    return any(True for _ in _kept_tensors(model))


def _kept_tensors(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                yield from _tensors(value, 3)


def _tensors(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item, depth - 1)
    elif depth and isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item, depth - 1)


def weights_hash(model: nn.Module) -> str:
    """Return a hash of the parameters, which must be the same on all ranks."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(tensor_bytes(parameter))
    return digest.hexdigest()


def working_copy(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose parameters need no gradient."""
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: a torch.nn.Module is needed, not {type(model).__name__}")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ConfigError(
                f"model: {name} is not initialised; call the model with a batch before"
            )
    devices = sorted({str(p.device) for p in model.parameters()})
    if len(devices) > 1:
        raise ConfigError(
            f"model: its parameters are on {' and '.join(devices)}; move it to one device"
        )
    if devices == ["meta"]:
        raise ConfigError("model: its parameters have no values (device meta); load them first")
    if not devices:
        raise ConfigError("model: it has no parameters")
    return copy_model(model).eval().requires_grad_(False)


def restore_gradients(small: nn.Module, original: nn.Module) -> None:
    """Let parameters be trained as those of the original model; new ones can be trained."""
    wanted = {name: p.requires_grad for name, p in original.named_parameters()}
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(wanted.get(name, True))
