"""Moments of the tensors that enter and leave the layers, from passes over the rows.

The tensors become outputs of the graph, and ONNX Runtime computes them batch by batch: one row per
sample for a matrix, one per pixel or token for convolutions and sequences. Patches of convolutions
are never formed. Where the tensors of a batch would take much memory, the layers are divided into
groups, and each group has a pass of its own through the part of the graph that it needs.

Under MPI each rank passes its own rows, and one reduction adds the moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.low_rank.layer_data import LayerMoments
from hpcembed.networks.low_rank.moments import Moments
from hpcembed.networks.low_rank.shape import LayerShape
from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.inference import Session
from hpcembed.networks.onnx_compression.layers import OnnxLayer
from hpcembed.networks.onnx_compression.rows import Batch, Rows
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import sum_over_ranks

__all__ = [
    "BATCH_BYTES",
    "Statistics",
    "SumsCheckpoint",
    "channel_rows",
    "collect",
    "tensor_groups",
]

Array = NDArray[Any]

#: Memory of the tensors of one batch.
BATCH_BYTES = 256 * 2**20
#: A tensor with its layout (channels second or last) and its number of groups.
_Key = tuple[str, bool, int]


class SumsCheckpoint(Protocol):
    """A place for the sums of a pass over this rank's rows. Not collective."""

    def restore(self, into: Callable[[dict[str, Array]], None]) -> bool:
        """Call `into` with the last sums that were stored; return False if there are none."""
        ...

    def batch_done(self, state: Callable[[], dict[str, Array]], *, ended: bool) -> None:
        """Store the sums if that is due or they are complete; raise an error to stop."""
        ...


@dataclass
class Statistics:
    """Moments of the layers that may be compressed, and the shapes of all.

    Attributes
    ----------
    layers : dict of str to LayerMoments
        In topological order.
    shapes : dict of str to LayerShape
        With the positions of one sample; also of layers that are left alone.
    groups : list of tuples of str
        Layers that read the same tensor, two or more.
    samples : int
        On all ranks.
    row_bytes : int
        Largest tensor of one sample.
    """

    layers: dict[str, LayerMoments]
    shapes: dict[str, LayerShape]
    groups: list[tuple[str, ...]]
    samples: int
    row_bytes: int


def collect(
    network: Network,
    layers: Sequence[OnnxLayer],
    rows: Rows,
    comm: MPI.Comm,
    *,
    input_side: bool,
    threads: int,
    checkpoint: SumsCheckpoint | None = None,
) -> Statistics:
    """Pass the rows through the network and return the moments of its layers.

    Collective.

    Parameters
    ----------
    layers : sequence of OnnxLayer
        Layers with a reason to leave them alone are counted, without moments.
    input_side : bool
        Also moments for reductions of the channels that enter.
    checkpoint : SumsCheckpoint, optional
        The pass over this rank's rows continues from the sums there, with the same bits.

    Raises
    ------
    InputError
        If the model does not take the rows, a value is not finite (layer and rows are named), or
        there is no row on any rank.
    """
    layers = [layer for layer in layers if layer.shape.outputs]
    counted, layers = layers, [layer for layer in layers if not layer.reason]
    wanted = {layer.name: _tensors(layer, input_side) for layer in layers}
    moments: dict[_Key, list[Moments]] = {}
    for layer in layers:
        for key, width in zip(wanted[layer.name], _widths(layer), strict=True):
            if key is not None and key not in moments:
                moments[key] = [Moments(width) for _ in range(key[2])]
    tensors = list(dict.fromkeys(name for layer in counted for name in (layer.x, layer.y)))
    samples = int(comm.allreduce(len(rows)))
    if not samples:
        raise InputError(f"{rows.name}: there is no row")
    sizes = np.zeros(2 * len(tensors))
    with agreement(comm):
        _add_all(network, layers, rows, moments, tensors, sizes, threads, checkpoint)
    sizes = sum_over_ranks(comm, sizes)
    for entries in moments.values():
        for entry in entries:
            entry.reduce(comm)
    numbers, itemsizes = sizes.reshape(2, -1) / samples
    by_tensor = dict(zip(tensors, numbers, strict=True))
    result = {}
    for layer in layers:
        leaving, entering = wanted[layer.name]
        result[layer.name] = LayerMoments(
            moments[leaving] if leaving else [], moments[entering] if entering else []
        )
    shapes = {
        layer.name: replace(
            layer.shape,
            positions=by_tensor[layer.y] / layer.shape.outputs,
            input_positions=by_tensor[layer.x] / layer.shape.inputs,
        )
        for layer in counted
    }
    largest = int(max(numbers * itemsizes, default=0))
    return Statistics(result, shapes, _readers(network, layers), samples, largest)


def _tensors(layer: OnnxLayer, input_side: bool) -> tuple[_Key | None, _Key | None]:
    """Return the tensors whose moments a layer needs: of its outputs, of its inputs."""
    shape = layer.shape
    leaving = entering = None
    # A matrix with more outputs than inputs has the smaller moments at its inputs.
    if shape.kernel > 1 or shape.group_outputs <= shape.group_inputs:
        leaving = (layer.y, layer.is_convolution, shape.groups)
    if leaving is None or input_side:
        entering = (layer.x, layer.is_convolution, shape.groups)
    return leaving, entering


def _widths(layer: OnnxLayer) -> tuple[int, int]:
    return layer.shape.group_outputs, layer.shape.group_inputs


def _readers(network: Network, layers: Sequence[OnnxLayer]) -> list[tuple[str, ...]]:
    """Return the layers with one place that read the same tensor."""
    readers: dict[tuple[str, bool], list[str]] = {}
    for layer in layers:
        if layer.shape.kernel == 1 and layer.shape.groups == 1 and not _is_padded(network, layer):
            readers.setdefault((layer.x, layer.is_convolution), []).append(layer.name)
    return [tuple(names) for names in readers.values() if len(names) > 1]


def _is_padded(network: Network, layer: OnnxLayer) -> bool:
    node = network.nodes[layer.node]
    return any(one.name == "pads" and any(one.ints) for one in node.attribute)


def _add_all(
    network: Network,
    layers: Sequence[OnnxLayer],
    rows: Rows,
    moments: Mapping[_Key, list[Moments]],
    tensors: Sequence[str],
    sizes: NDArray[np.float64],
    threads: int,
    checkpoint: SumsCheckpoint | None,
) -> None:
    sums = _Sums(moments, sizes)
    if checkpoint is not None:
        checkpoint.restore(sums.restore)
    first, sums.done = sums.done, 0
    readers: dict[str, list[_Key]] = {}
    for key in moments:
        readers.setdefault(key[0], []).append(key)
    names = {layer.x: f"layer {layer.name}: its inputs" for layer in layers}
    names |= {layer.y: f"layer {layer.name}: its outputs" for layer in layers}
    place = {name: position for position, name in enumerate(tensors)}
    for group, size in tensor_groups(network, tensors, rows, threads):
        session = None
        for batch in rows.batches(size=size):
            sums.done += 1
            if sums.done <= first:
                continue
            session = session or Session(network, group, threads=threads)
            values = session.run(batch.feeds, batch.name)
            for name in group:
                value = batch.valid(values.pop(name))
                sizes[place[name]] += value.size
                sizes[len(tensors) + place[name]] += value.itemsize * batch.size
                for key in readers.get(name, []):
                    _add(moments[key], value, key, batch, names[name])
            if checkpoint is not None:
                checkpoint.batch_done(sums.state, ended=False)
    if checkpoint is not None and sums.done > first:
        checkpoint.batch_done(sums.state, ended=True)


@dataclass
class _Sums:
    """The sums of a pass, and the number of batches in them."""

    moments: Mapping[_Key, list[Moments]]
    sizes: NDArray[np.float64]
    done: int = 0

    def _entries(self) -> list[Moments]:
        return [entry for entries in self.moments.values() for entry in entries]

    def state(self) -> dict[str, Array]:
        """Return the sums as arrays."""
        arrays: dict[str, Array] = {"done": np.array(self.done), "sizes": self.sizes.copy()}
        for i, entry in enumerate(self._entries()):
            arrays[f"count.{i}"] = np.array(entry.count)
            arrays[f"total.{i}"] = entry.total.copy()
            arrays[f"second.{i}"] = entry.second.copy()
        return arrays

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Restore the sums and the number of batches in them."""
        self.sizes[:] = arrays["sizes"]
        for i, entry in enumerate(self._entries()):
            entry.count = int(arrays[f"count.{i}"])
            entry.total[:], entry.second[:] = arrays[f"total.{i}"], arrays[f"second.{i}"]
        self.done = int(arrays["done"])
        if self.done < 0:
            raise ValueError(f"{self.done} batches")


def tensor_groups(
    network: Network, tensors: Sequence[str], rows: Rows, threads: int
) -> Iterator[tuple[list[str], int]]:
    """Yield groups of tensors that fit into :data:`BATCH_BYTES` together, and the rows of a batch.

    The sizes are those of the first row.
    """
    first = next(rows.batches(1), None)
    if first is None or not tensors:
        return
    values = Session(network, tensors, threads=threads).run(first.feeds, first.name)
    count = len(next(iter(first.feeds.values())))
    sizes = {name: max(1, values[name].nbytes // count) for name in tensors}
    size = rows.batch_size
    if not rows.fixed:
        size = int(np.clip(BATCH_BYTES // sum(sizes.values()), 1, size))
        if size < rows.batch_size:  # rather groups of layers than single rows
            size = min(rows.batch_size, max(size, 8))
    group: list[str] = []
    taken = 0
    for name in tensors:
        if group and taken + sizes[name] * size > BATCH_BYTES:
            yield group, size
            group, taken = [], 0
        group.append(name)
        taken += sizes[name] * size
    yield group, size


def _add(entries: list[Moments], value: Array, key: _Key, batch: Batch, what: str) -> None:
    rows = channel_rows(value, key[1], batch.mask)
    width = entries[0].total.size
    for group, entry in enumerate(entries):
        entry.add_rows(rows[:, group * width : (group + 1) * width])
        if not np.isfinite(entry.total).all():
            raise InputError(f"{what} for {batch.name} are not finite")


def channel_rows(value: Array, is_convolution: bool, mask: NDArray[np.bool_] | None) -> Array:
    """Return a tensor as rows of channels, without padding of sequences.

    Parameters
    ----------
    value : ndarray
        (samples, channels, ...) for convolutions, else (..., channels).
    mask : ndarray of bool or None
        Positions that count, where its shape is that of the tensor without channels.
    """
    if is_convolution:
        return np.moveaxis(value, 1, -1).reshape(-1, value.shape[1])
    rows = value.reshape(-1, value.shape[-1])
    if mask is not None and mask.shape == value.shape[:-1]:
        rows = rows[mask.reshape(-1)]
    return rows
