"""PyTorch's process group over the ranks of an MPI communicator, for as long as a block runs.

MPI tells the ranks where to meet: rank 0 lets the system choose a free port for the store and
broadcasts it, so two jobs on one node never ask for the same one. Within the block all messages
go through PyTorch: gloo, or NCCL where every rank has a GPU of its own.

No rank waits for one that has failed: a rank that leaves closes its connections, which ends the
reductions of the others at once (:class:`ContactLostError`); then all agree on what is raised.
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

from hpcembed.runtime.errors import ConfigError, HpcembedError
from hpcembed.runtime.ranks import agree, agreement

__all__ = ["ContactLostError", "Group", "process_group"]

#: How long ranks look for each other, and how long one waits for the slowest in a reduction.
_MEETING = timedelta(minutes=2)
_PATIENCE = timedelta(minutes=10)

#: Where rank 0 is met when all ranks are on its node.
_LOOPBACK = "127.0.0.1"


class ContactLostError(HpcembedError, ConnectionError):
    """Another rank no longer answers; that rank knows why."""


class Group:
    """Ranks that train one network: reductions of tensors among them.

    Attributes
    ----------
    rank, size : int
    device : torch.device
        Where this rank computes.
    """

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank = rank
        self.size = size
        self.device = device

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over the ranks, in place; the same bits on all of them. Collective."""
        return self._call(lambda: distributed.all_reduce(tensor), tensor)

    def broadcast(self, tensor: torch.Tensor) -> torch.Tensor:
        """Take over rank 0's numbers, in place. Collective."""
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
) -> Iterator[Group]:
    """Let the ranks of a communicator reduce tensors within the block.

    Collective, and so is the end of the block. An error that the user can mend and that one rank
    meets alone within it is raised on all ranks.

    Parameters
    ----------
    device : {'auto', 'cpu', 'cuda'}
        auto: GPUs where every rank has one of its own, else CPUs.

    Raises
    ------
    ConfigError
        A PyTorch without what this needs, fewer GPUs than ranks with ``cuda``, or ranks that
        cannot reach each other.
    """
    with agreement(comm):
        _check_torch()
    place = _place(comm, device)
    with agreement(comm):
        if place is None and device == "cuda":
            raise ConfigError(
                "classifier.device: cuda with a network trained data-parallel takes a GPU and NCCL "
                "for each rank, which are not there; start as many ranks as GPUs, or use cpu"
            )
    store = _meet(comm, "gloo" if place is None else "nccl", place)
    failure: Exception | None = None
    try:
        if place is None:
            yield Group(comm.rank, comm.size, torch.device("cpu"))
        else:
            with torch.cuda.device(place):
                yield Group(comm.rank, comm.size, place)
    except (HpcembedError, OSError, MemoryError) as caught:
        failure = caught
    finally:
        distributed.destroy_process_group()
    # The rank that knows why speaks first, not those that it left behind.
    agree(comm, None if isinstance(failure, ContactLostError) else failure)
    agree(comm, failure)
    del store  # rank 0 serves it: not before all have left


def _check_torch() -> None:
    remedy = "install one that has, or set classifier.parallel = gather"
    if not distributed.is_available() or not distributed.is_gloo_available():
        lacks = "torch.distributed" if not distributed.is_available() else "gloo"
        raise ConfigError(f"training over ranks: this PyTorch lacks {lacks}: {remedy}")
    if distributed.is_initialized():
        raise ConfigError(
            "training over ranks: torch.distributed is in use already: end its process group first"
        )


def _meet(comm: MPI.Intracomm, backend: str, place: torch.device | None) -> Any:
    """Start the group; the store must live as long as it. Collective."""
    address, one_node = _address(comm)
    store: Any = None
    port, tcp_store = 0, distributed.TCPStore  # type: ignore[attr-defined]
    with agreement(comm):
        if comm.rank == 0:
            try:
                store = tcp_store(
                    address, 0, is_master=True, timeout=_MEETING, wait_for_workers=False
                )
            except RuntimeError as error:
                raise _unreachable(address, error) from error
            port = store.port
    port = comm.bcast(port)
    with agreement(comm):
        try:
            if store is None:
                store = tcp_store(address, port, is_master=False, timeout=_MEETING)
            with _interface(one_node):
                distributed.init_process_group(
                    backend, store=store, rank=comm.rank, world_size=comm.size, timeout=_PATIENCE
                )
            # A first message: connections that cannot be made are found here.
            distributed.all_reduce(torch.zeros(1, device=place))
        except RuntimeError as error:
            if distributed.is_initialized():
                distributed.destroy_process_group()
            raise _unreachable(f"{address}:{port}", error) from error
    return store


def _unreachable(address: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"training over ranks: they cannot reach each other through {address} "
        f"({str(error).splitlines()[0]}): name the network interface in GLOO_SOCKET_IFNAME "
        "(NCCL_SOCKET_IFNAME for GPUs), or set classifier.parallel = gather"
    )


def _address(comm: MPI.Intracomm) -> tuple[str, bool]:
    """Where rank 0 can be reached by all, and whether all are on its node. Collective."""
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    one_node = node.size == comm.size
    node.Free()
    hosts = comm.allgather(socket.gethostname())
    if one_node:
        return _LOOPBACK, True
    others = [host for host in hosts if host != hosts[0]]
    return comm.bcast(_route_to(others[0]) if others and comm.rank == 0 else hosts[0]), False


def _route_to(host: str) -> str:
    """This machine's address on the way to another; its name where that cannot be told."""
    try:
        places = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
    except OSError:
        places = []
    for family, kind, protocol, _, target in places:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.connect(target)  # no packet is sent
            except OSError:
                continue
            return str(probe.getsockname()[0])
    return socket.gethostname()


@contextmanager
def _interface(one_node: bool) -> Iterator[None]:
    """Let gloo use the loopback interface on one node: no name need be known, no wall passed."""
    name = "GLOO_SOCKET_IFNAME"
    if not one_node or name in os.environ or "lo" not in {one for _, one in socket.if_nameindex()}:
        yield
        return
    os.environ[name] = "lo"
    try:
        yield
    finally:
        del os.environ[name]


def _place(comm: MPI.Intracomm, device: str) -> torch.device | None:
    """The GPU of this rank, None unless every rank has one of its own. Collective."""
    wanted = device != "cpu" and torch.cuda.is_available() and distributed.is_nccl_available()
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    visible = node.allgather(_gpu_names() if wanted else ())
    mine = share_out(visible)[node.rank]
    node.Free()
    everyone = comm.allreduce(mine is not None, op=MPI.LAND)
    return torch.device("cuda", mine) if everyone and mine is not None else None


def _gpu_names() -> tuple[str, ...]:
    """Names that tell the GPUs of a node apart, however they are numbered for this rank."""
    masked = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        names.append(str(getattr(properties, "uuid", f"{masked}:{number}")))  # PyTorch 2.4 on
    return tuple(names)


def share_out(visible: Sequence[Sequence[str]]) -> list[int | None]:
    """For each rank of a node the number of a GPU that it sees and no rank before it took."""
    taken: set[str] = set()
    chosen: list[int | None] = []
    for names in visible:
        free = [number for number, name in enumerate(names) if name not in taken]
        chosen.append(free[0] if free else None)
        if free:
            taken.add(names[free[0]])
    return chosen
