"""A network run layer after layer on all batches, so that a layer's output can be corrected.

For each layer the nodes are run that its output needs and that were not run before. Between layers
the tensors stay in memory that later nodes read. So all layers together take one pass, and no node
behind a layer runs before the layer's output is corrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.networks.onnx_compression.graph import Network, inputs_of
from hpcembed.networks.onnx_compression.inference import Session, element_type
from hpcembed.networks.onnx_compression.rows import Batch
from hpcembed.runtime.errors import InputError

__all__ = ["SegmentedPass"]

Array = NDArray[Any]


@dataclass(frozen=True)
class _Segment:
    """Nodes up to one layer: tensors that they read, make, and that no later node needs."""

    given: list[str]
    made: list[str]
    done: set[str]


class SegmentedPass:
    """One pass of a network over batches, in segments that end with given tensors.

    Parameters
    ----------
    network : Network
    tensors : sequence of str
        Outputs of layers, in topological order.
    batches : sequence of Batch
    threads : int
    """

    def __init__(
        self, network: Network, tensors: Sequence[str], batches: Sequence[Batch], threads: int
    ) -> None:
        self._network, self._tensors, self._threads = network, list(tensors), threads
        self._segments = _segments(network, self._tensors)
        self._batches = list(batches)
        self._states: list[dict[str, Any]] = [dict(batch.feeds) for batch in batches]
        self._next = 0

    def advance(self) -> list[Array]:
        """Run up to the next tensor; return it for every batch, with all rows of the batch."""
        segment, tensor = self._segments[self._next], self._tensors[self._next]
        self._next += 1
        session: Session | None = None
        for state, batch in zip(self._states, self._batches, strict=True):
            if segment.made:
                if session is None:
                    types = {name: element_type(self._array(state, name)) for name in segment.given}
                    session = Session(self._network, segment.made, types, threads=self._threads)
                state |= session.run({n: state[n] for n in segment.given}, batch.name)
            for name in segment.done - {tensor}:
                state.pop(name, None)
        return [state[tensor] for state in self._states]

    def replace(self, values: Sequence[Array]) -> None:
        """Put other values in the place of the tensor that was reached last."""
        tensor = self._tensors[self._next - 1]
        for state, value in zip(self._states, values, strict=True):
            state[tensor] = value

    def _array(self, state: dict[str, Any], name: str) -> Array:
        value = state[name]
        if not isinstance(value, np.ndarray):
            raise InputError(
                f"model: {name} is not a tensor; layers before it cannot be fitted one after the "
                "other: use sequential=False"
            )
        return value


def _segments(network: Network, tensors: list[str]) -> list[_Segment]:
    remaining = set(range(len(network.nodes)))
    available = {one.name for one in network.inputs}
    segments = []
    for position, tensor in enumerate(tensors):
        run = set(network.ancestors([tensor], available)) & remaining
        remaining -= run
        read = {name for p in run for name in inputs_of(network.nodes[p])}
        made = {name for p in run for name in network.nodes[p].output if name}
        # Later layers need what is not run yet; nodes that only the outputs need are left out.
        wanted = network.ancestors(tensors[position + 1 :], available | made)
        needed = {name for p in wanted for name in inputs_of(network.nodes[p])}
        needed |= set(tensors[position + 1 :])
        kept = sorted((made & needed) | ({tensor} & made))
        segments.append(_Segment(sorted(read & available), kept, (available | made) - needed))
        available = (available | set(kept)) & (needed | {tensor})
    return segments
