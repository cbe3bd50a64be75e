"""Inputs and outputs of modules, seen during the calls of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from torch import Tensor, nn

__all__ = ["Observer", "observed"]

#: Receives the name of a module, its first argument and its output; may return another output.
Observer: TypeAlias = "Callable[[str, Tensor, Tensor], Tensor | None]"


@contextmanager
def observed(modules: Mapping[str, nn.Module], observer: Observer) -> Iterator[None]:
    """Call `observer` after every call of the modules within the block.

    Examples
    --------
    >>> import torch
    >>> layer = nn.Linear(3, 2)
    >>> with observed({"layer": layer}, lambda name, x, y: print(name, tuple(y.shape))):
    ...     _ = layer(input=torch.zeros(5, 3))
    layer (5, 2)
    """
    handles = []
    for name, module in modules.items():

        def hook(
            _module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Tensor,
            own: str = name,
        ) -> Tensor | None:  # fmt: skip
            x = inputs[0] if inputs else next(iter(named.values()))
            return observer(own, x, output)

        handles.append(module.register_forward_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
