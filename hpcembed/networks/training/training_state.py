"""The state of a training between two epochs, as arrays: it continues with the same bits.

The state has the weights, the state of the optimiser with its position in the schedule, the kept
weights, the record of the epochs and the random state. All of it is numbers in arrays, so that
nothing in a file is executed on reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "Arrays",
    "TrainingCheckpoint",
    "random_state",
    "require_finite",
    "restore_random_state",
    "with_prefix",
]

#: Arrays by their names.
Arrays = dict[str, NDArray[Any]]


class TrainingCheckpoint(Protocol):
    """A place for the state of one training.

    :mod:`hpcembed.jobs.checkpoints` writes it to files. For a training on all ranks, every method
    is collective.
    """

    def restore(self, into: Callable[[Arrays], None]) -> bool:
        """Call `into` with the last state that was stored; return False if there is none.

        Errors of `into` about arrays of another form become one line.
        """
        ...

    def epoch_done(self, state: Callable[[], Arrays], *, ended: bool) -> None:
        """Store the state after an epoch if that is due; raise an error if the job must stop.

        Parameters
        ----------
        state : callable
            Makes the state, if it is stored.
        ended : bool
            The training has ended: the state is stored.
        """
        ...

    def part(self, name: str) -> TrainingCheckpoint:
        """Return the place of another training that belongs to the same one."""
        ...


def with_prefix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """Return copies of tensors as arrays, with a prefix before their names."""
    return {f"{prefix}{name}": one.detach().cpu().numpy().copy() for name, one in tensors.items()}


def require_finite(arrays: Arrays, prefixes: tuple[str, ...]) -> None:
    """Raise an error if an array whose name begins with a prefix has values that are not finite.

    Raises
    ------
    ValueError
    """
    for name, array in arrays.items():
        if name.startswith(prefixes) and not bool(np.isfinite(array).all()):
            raise ValueError(f"{name} has values that are not finite")


def random_state(generators: Sequence[torch.Generator], device: torch.device) -> Arrays:
    """Return the state of generators, and of the global generators of PyTorch."""
    states = [one.get_state() for one in generators]
    states.append(torch.get_rng_state())
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return {f"random.{i}": state.numpy().copy() for i, state in enumerate(states)}


def restore_random_state(
    arrays: Arrays, generators: Sequence[torch.Generator], device: torch.device
) -> None:
    """Restore the state that :func:`random_state` returned."""
    for number, generator in enumerate(generators):
        generator.set_state(torch.from_numpy(arrays[f"random.{number}"].copy()))
    n = len(generators)
    torch.set_rng_state(torch.from_numpy(arrays[f"random.{n}"].copy()))
    if device.type == "cuda" and f"random.{n + 1}" in arrays:
        torch.cuda.set_rng_state(torch.from_numpy(arrays[f"random.{n + 1}"].copy()), device)
