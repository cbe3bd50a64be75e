"""The curvature matrix of distributed rows as a PETSc shell matrix.

Every rank has its rows and a copy of the model. Vectors of parameters are distributed, so that the
basis of the eigensolver is shared by the ranks. A product gathers the vectors on all ranks,
multiplies them on the rows of each rank, and sums the products.
"""

from __future__ import annotations

import hashlib

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.curvature.products import CurvatureProducts
from hpcembed.operators.block_shell import BlockProducts, gather_block, scatter_block_sum
from hpcembed.runtime.agreement import agree, agreement, same_on_all_ranks
from hpcembed.runtime.errors import HpcembedError, InputError
from hpcembed.runtime.ranks import ownership_range, place_rows, sum_over_ranks

__all__ = ["CurvatureOperator"]

#: Rows of all ranks on which the loss is tested: each rank tests its own, which may be one class.
_TEST_ROWS = 64


class CurvatureOperator(BlockProducts):
    """Products of distributed vectors with the curvature matrix of the rows of all ranks.

    Collective.

    Parameters
    ----------
    local : CurvatureProducts
        Those of this rank's rows; the parameters are the same on all ranks.
    comm : MPI.Comm

    Attributes
    ----------
    layout : tuple of int
        Local and global number of parameters.
    n_rows : int
        Rows of all ranks.
    n_products : int
        Number of products so far: one for each vector.

    Raises
    ------
    ConfigError
        Parameters differ between ranks.
    InputError
        No rank has a row, or the loss of rows of several ranks is no mean over rows.
    """

    def __init__(self, local: CurvatureProducts, comm: MPI.Comm) -> None:
        digest = hashlib.sha256(local.parameters().tobytes()).hexdigest()[:16]
        same_on_all_ranks(comm, parameters=digest, matrix=local.matrix, dtype=local.dtype)
        self.comm, self._local = comm, local
        n = local.n_parameters
        first, last = ownership_range(n, comm)
        self.layout = (last - first, n)
        self._counts = np.array(comm.allgather(last - first), dtype=np.int64)
        _, self.n_rows = place_rows(local.n_rows, comm)
        if not self.n_rows:
            raise InputError("there are no rows: the loss needs at least one")
        if comm.size > 1:
            with agreement(comm):
                sample = local.sample(max(1, _TEST_ROWS // comm.size))
            samples = [one for one in comm.allgather(sample) if one is not None]
            with agreement(comm):
                local.check_mean(samples)
        self._share = local.n_rows / self.n_rows
        self.n_products = 0

    def mult_block(self, V: NDArray[np.float64], product: NDArray[np.float64]) -> None:
        """Compute ``product = A V``, this rank's rows of both. Collective."""
        whole = gather_block(self.comm, V, self._counts)
        total, error = None, None
        try:
            total = np.ascontiguousarray(self._share * self._local.multiply(whole))
        except (HpcembedError, MemoryError) as caught:
            error = _without_frames(caught)
        agree(self.comm, error)
        assert total is not None  # else all ranks have raised the error
        product[:] = scatter_block_sum(self.comm, total, self._counts)
        self.n_products += V.shape[1]

    def loss_and_gradient(self) -> tuple[float, NDArray[np.float64]]:
        """Return the mean loss of all rows, and its gradient on every rank. Collective."""
        with agreement(self.comm):
            loss, gradient = self._local.loss_and_gradient()
        total = sum_over_ranks(self.comm, self._share * np.append(gradient, loss))
        return float(total[-1]), total[:-1]


def _without_frames(error: Exception) -> Exception:
    """Return an error of the same type and text whose traceback holds no frames.

    Frames hold those of their callers, and with them the vectors of the solver. If these stay alive
    on one rank alone, PETSc waits for the other ranks when they are destroyed.
    """
    part: BaseException | None = error
    while part is not None:
        part.__traceback__, part = None, part.__context__
    return type(error)(str(error))
