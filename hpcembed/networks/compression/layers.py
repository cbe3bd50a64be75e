"""Layers of a torch model that have low-rank replacements, and why the others are left alone.

A layer is a module that multiplies by one weight: ``Linear``, ``Conv1d``, ``Conv2d``, or the
``Conv1D`` of GPT-2 type models, which is a matrix stored transposed. Modules are recognised by
their forward method, so a subclass that only changes the initialisation counts, and a subclass with
a forward method of its own does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hpcembed.networks.low_rank.shape import LayerShape
from hpcembed.runtime.errors import ConfigError

__all__ = [
    "Layer",
    "LayerSelection",
    "find_layers",
    "has_code_of_its_own",
    "is_convolution",
    "weight_matrix",
]

#: Names (also patterns with *), types, or a predicate of name and module.
LayerSelection: TypeAlias = (
    "str | Iterable[str | type[nn.Module]] | Callable[[str, nn.Module], bool]"
)

_KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "linear": (nn.Linear,),
    "conv": (nn.Conv1d, nn.Conv2d),
}
#: Modules of torch that read the weights of their children directly.
_WEIGHT_READERS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


@dataclass(frozen=True)
class Layer:
    """A layer of the model.

    Attributes
    ----------
    name : str
        As in ``named_modules``.
    module : nn.Module
    kind : {"linear", "conv", "transposed"}
    reason : str
        Why it is left alone; empty if it may be compressed.
    """

    name: str
    module: Any
    kind: str
    reason: str = ""

    def shape(self, positions: float, input_positions: float) -> LayerShape:
        """Return the shape, with the vectors that one sample has."""
        weight, bias = self.module.weight, self.module.bias is not None
        if self.kind == "transposed":
            n, m = weight.shape
        else:
            m, n = weight.shape[:2]
        groups = getattr(self.module, "groups", 1)
        kernel = math.prod(weight.shape[2:])
        return LayerShape(
            int(m), int(n) * groups, kernel, groups, bias, positions, input_positions
        )  # fmt: skip


def is_convolution(module: nn.Module) -> bool:
    """Return True for convolutions of torch."""
    return isinstance(module, (nn.Conv1d, nn.Conv2d))


def has_code_of_its_own(module: nn.Module) -> bool:
    """Return True if a call of this module runs more than the forward method of its type."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in vars(module) or any(vars(module).get(name) for name in hooks)


def weight_matrix(module: Any) -> Tensor:
    """Return the weight with outputs first, in double precision: (m, n) or (m, n, ...)."""
    weight: Tensor = module.weight.detach().double()
    return weight.T if _is_transposed(module) else weight


def find_layers(model: nn.Module, selection: LayerSelection) -> list[Layer]:
    """Return all layers of the model in the order of its modules, with reasons.

    Raises
    ------
    ConfigError
        If a name of the selection matches no layer, or names a layer that cannot be compressed.
    """
    wanted, explicit = _wanted(model, selection)
    owners = _owners(model)
    inside = {
        id(child): name
        for name, parent in model.named_modules()
        if isinstance(parent, _WEIGHT_READERS)
        for child in parent.modules()
    }
    layers = []
    for name, module in model.named_modules():
        kind = _kind(module)
        if not kind:
            if name in explicit:
                raise ConfigError(
                    f"layers: {name} is {type(module).__name__}; only Linear, Conv1d, Conv2d and "
                    "Conv1D can be compressed"
                )
            continue
        reason = _reason(module, owners, inside) if name else "it is the model itself"
        if name in explicit and reason:
            raise ConfigError(f"layers: {name} cannot be compressed: {reason}")
        if not reason and name not in wanted:
            reason = "not selected"
        layers.append(Layer(name, module, kind, reason))
    return layers


def _wanted(model: nn.Module, selection: LayerSelection) -> tuple[set[str], set[str]]:
    """Return the names that are selected, and those that the user has named in full."""
    modules = dict(model.named_modules())
    if callable(selection) and not isinstance(selection, type):
        return {name for name, module in modules.items() if selection(name, module)}, set()
    items: Any = selection.split(",") if isinstance(selection, str) else selection
    if isinstance(selection, str) and not all(item.strip() for item in items):
        raise ConfigError(f"layers: {selection!r} has an empty name")
    if isinstance(items, type) or not isinstance(items, Iterable):
        items = [items]
    wanted: set[str] = set()
    explicit: set[str] = set()
    for item in items:
        if not isinstance(item, (str, type)):
            raise ConfigError(f"layers: {item!r} is not a name, a pattern or a type of module")
        if isinstance(item, type):
            found = {name for name, module in modules.items() if isinstance(module, item)}
        elif item.strip() in _KINDS:
            kinds = {"linear": ("linear", "transposed"), "conv": ("conv",)}[item.strip()]
            found = {name for name, module in modules.items() if _kind(module) in kinds}
        elif "*" in item:
            found = {name for name in modules if _matches(name, item.strip())}
        else:
            found = {item.strip()} & set(modules)
            explicit |= found
        if not found and not (isinstance(item, str) and item.strip() in _KINDS):
            raise ConfigError(f"layers: no module of the model matches {item!r}")
        wanted |= found
    return wanted, explicit


def _matches(name: str, pattern: str) -> bool:
    from fnmatch import fnmatchcase

    return fnmatchcase(name, pattern)


def _kind(module: nn.Module) -> str:
    if _is_transposed(module):
        return "transposed"
    for kind, types in _KINDS.items():
        for base in types:
            if isinstance(module, base) and type(module).forward is base.forward:
                return kind
    return ""


def _is_transposed(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return (
        type(module).__name__ == "Conv1D"
        and hasattr(module, "nf")
        and isinstance(weight, Tensor)
        and weight.ndim == 2
    )


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """Return the names of all parameters, by the address of their memory."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if not isinstance(parameter, nn.parameter.UninitializedParameter):
                owners.setdefault(parameter.data_ptr(), []).append(f"{name}.{key}")
    return owners


def _reason(module: Any, owners: dict[int, list[str]], inside: dict[int, str]) -> str:
    weight = module.weight
    if isinstance(weight, nn.parameter.UninitializedParameter):
        return "its weight is not initialised"
    if parametrize.is_parametrized(module) or not isinstance(weight, nn.Parameter):
        return "its weight is computed by a parametrization"
    if not weight.is_floating_point() or weight.dtype not in (
        torch.float16, torch.bfloat16, torch.float32, torch.float64
    ):  # fmt: skip
        return f"its weight has type {weight.dtype}"
    sharing = owners.get(weight.data_ptr(), [])
    if len(sharing) > 1:
        return f"its weight is tied: {', '.join(sharing)}"
    if id(module) in inside:
        return f"{inside[id(module)]} reads its weight directly"
    if has_code_of_its_own(module):
        return "it has hooks, or a forward method that was put in its place"
    groups = getattr(module, "groups", 1)
    if groups > 1 and (weight.shape[1] == 1 or module.out_channels == groups):
        return "depthwise"
    if is_convolution(module) and module.padding_mode != "zeros":
        return f"padding mode {module.padding_mode}"
    return ""
