"""PyTorch's process group over the ranks of an MPI communicator, within a block.

The ranks exchange the address of the store by MPI: rank 0 lets the system choose a free port and
broadcasts it, so two jobs on one compute node never use the same one. Each rank uses the network
interface on its route to rank 0, because gloo would use the address of the rank's own host name,
which other compute nodes may not reach. Within the block all messages go through PyTorch: gloo, or
NCCL where every rank has a GPU of its own.

No rank waits for one that has failed: a rank that leaves closes its connections, which ends the
reductions of the others at once (:class:`ContactLostError`); then all ranks raise the same error.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
from mpi4py import MPI
from torch import distributed

from hpcembed.runtime.agreement import agree, agreement
from hpcembed.runtime.errors import ConfigError, HpcembedError
from hpcembed.runtime.machine.network_interfaces import address_towards, interface_towards
from hpcembed.runtime.ranks import compute_node, ranks_on_compute_node

__all__ = ["ContactLostError", "ProcessGroup", "process_group", "share_gpus"]

#: Longest wait for the connections of all ranks, and for the slowest rank in a reduction.
_CONNECTING = timedelta(minutes=2)
_PATIENCE = timedelta(minutes=10)

#: Address of rank 0 when all ranks are on its compute node.
_LOOPBACK = "127.0.0.1"


class ContactLostError(HpcembedError, ConnectionError):
    """Another rank left the group; the error of that rank has the reason."""


class ProcessGroup:
    """Reductions of tensors among the ranks that train one network.

    Attributes
    ----------
    rank, size : int
    device : torch.device
        Of this rank.
    """

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over the ranks, in place; the same bits on all of them. Collective."""
        return self._call(lambda: distributed.all_reduce(tensor), tensor)

    def broadcast(self, tensor: torch.Tensor) -> torch.Tensor:
        """Copy the numbers of rank 0, in place. Collective."""
        return self._call(lambda: distributed.broadcast(tensor, src=0), tensor)

    @staticmethod
    def _call(message: Callable[[], object], tensor: torch.Tensor) -> torch.Tensor:
        try:
            message()
            return tensor
        except RuntimeError as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
        # Not from that error: its traceback would keep the connections open, and others waiting.
        raise ContactLostError(
            "another rank left the training of the network, or did not answer for "
            f"{_PATIENCE.seconds // 60} minutes ({reason})"
        )


@contextmanager
def process_group(
    comm: MPI.Intracomm, device: Literal["auto", "cpu", "cuda"] = "auto"
) -> Iterator[ProcessGroup]:
    """Connect the ranks of a communicator within the block.

    Collective at the beginning and at the end of the block. An
    :class:`~hpcembed.runtime.errors.HpcembedError`, operating-system or memory error of one rank
    within the block is raised on all ranks.

    Parameters
    ----------
    device : {'auto', 'cpu', 'cuda'}
        auto: GPUs where every rank has one of its own, else CPUs.

    Raises
    ------
    ConfigError
        This PyTorch has no gloo, there are fewer GPUs than ranks with ``cuda``, or the ranks cannot
        reach each other.
    """
    with agreement(comm):
        _check_torch()
    place = _own_gpu(comm, device)
    with agreement(comm):
        if place is None and device == "cuda":
            raise ConfigError(
                "classifier.device: cuda with a network trained data-parallel needs NCCL and one "
                "GPU for each rank; start as many ranks as GPUs, or use cpu"
            )
    store = _connect(comm, "gloo" if place is None else "nccl", place)
    failure: Exception | None = None
    try:
        if place is None:
            yield ProcessGroup(comm.rank, comm.size, torch.device("cpu"))
        else:
            with torch.cuda.device(place):
                yield ProcessGroup(comm.rank, comm.size, place)
    except (HpcembedError, OSError, MemoryError) as caught:
        failure = caught
    finally:
        distributed.destroy_process_group()
    # The error of the rank that failed comes before those of the ranks that lost contact.
    agree(comm, None if isinstance(failure, ContactLostError) else failure)
    agree(comm, failure)
    del store  # rank 0 serves it until all ranks have left


def _check_torch() -> None:
    remedy = "install one that has, or set classifier.parallel = gather"
    if not distributed.is_available() or not distributed.is_gloo_available():
        lacks = "torch.distributed" if not distributed.is_available() else "gloo"
        raise ConfigError(f"training over ranks: this PyTorch lacks {lacks}: {remedy}")
    if distributed.is_initialized():
        raise ConfigError(
            "training over ranks: torch.distributed is in use already: end its process group first"
        )


def _connect(comm: MPI.Intracomm, backend: str, place: torch.device | None) -> Any:
    """Start the group and return its store, which must live as long as the group. Collective."""
    address = _address(comm)
    store: Any = None
    port, tcp_store = 0, distributed.TCPStore  # type: ignore[attr-defined]
    with agreement(comm):
        if comm.rank == 0:
            try:
                store = tcp_store(
                    address, 0, is_master=True, timeout=_CONNECTING, wait_for_workers=False
                )
            except RuntimeError as error:
                raise _unreachable(address, error) from error
            port = store.port
    port = comm.bcast(port)
    with agreement(comm):
        try:
            if store is None:
                store = tcp_store(address, port, is_master=False, timeout=_CONNECTING)
            with _interface(address):
                distributed.init_process_group(
                    backend, store=store, rank=comm.rank, world_size=comm.size, timeout=_PATIENCE
                )
            # The first message opens the connections.
            distributed.all_reduce(torch.zeros(1, device=place))
        except RuntimeError as error:
            if distributed.is_initialized():
                distributed.destroy_process_group()
            raise _unreachable(f"{address}:{port}", error) from error
    return store


def _unreachable(address: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"training over ranks: the ranks cannot reach each other through {address} "
        f"({str(error).splitlines()[0]}): name the network interface in GLOO_SOCKET_IFNAME "
        "(NCCL_SOCKET_IFNAME for GPUs), or set classifier.parallel = gather"
    )


def _address(comm: MPI.Intracomm) -> str:
    """Return an address of rank 0 that all ranks reach. Collective."""
    hosts = comm.allgather(socket.gethostname())
    if ranks_on_compute_node(comm) == comm.size:
        return _LOOPBACK
    others = [host for host in hosts if host != hosts[0]]
    mine = address_towards(others[0]) if others and comm.rank == 0 else None
    return comm.bcast(mine or hosts[0])


@contextmanager
def _interface(address: str) -> Iterator[None]:
    """Let gloo use the interface on the route to rank 0, unless the user named one."""
    name = "GLOO_SOCKET_IFNAME"
    found = None if name in os.environ else interface_towards(address)
    if found is None:
        yield
        return
    os.environ[name] = found
    try:
        yield
    finally:
        del os.environ[name]


def _own_gpu(comm: MPI.Intracomm, device: str) -> torch.device | None:
    """Return the GPU of this rank, None unless every rank has one of its own. Collective."""
    wanted = device != "cpu" and torch.cuda.is_available() and distributed.is_nccl_available()
    node = compute_node(comm)
    visible = node.allgather(_gpu_names() if wanted else ())
    mine = share_gpus(visible)[node.rank]
    node.Free()
    everyone = comm.allreduce(mine is not None, op=MPI.LAND)
    return torch.device("cuda", mine) if everyone and mine is not None else None


def _gpu_names() -> tuple[str, ...]:
    """Return unique names of the GPUs of this rank, which do not depend on their numbers."""
    masked = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        names.append(str(getattr(properties, "uuid", f"{masked}:{number}")))  # PyTorch 2.4 on
    return tuple(names)


def share_gpus(visible: Sequence[Sequence[str]]) -> list[int | None]:
    """Return for each rank of a compute node the number of a GPU that no lower rank has, or None.

    Parameters
    ----------
    visible : sequence of sequence of str
        For each rank the names of its visible GPUs.

    Examples
    --------
    >>> share_gpus([("a", "b"), ("b", "a"), ("a", "b")])
    [0, 0, None]
    """
    taken: set[str] = set()
    chosen: list[int | None] = []
    for names in visible:
        free = [number for number, name in enumerate(names) if name not in taken]
        chosen.append(free[0] if free else None)
        if free:
            taken.add(names[free[0]])
    return chosen
