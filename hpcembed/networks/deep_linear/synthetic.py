"""Problems with a known truth: the published ones, and sparse tables of any size.

The published targets (released code of Kwon et al., 2024) take singular vectors and values of a
Gaussian matrix at the positions 0, d/(2r), 2d/(2r), ...: condition number about 2. The published
figures of completion agree with the r dominant ones instead (``spread=False``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import scipy.special
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.deep_linear.completion import Completion, entries_of_product
from hpcembed.networks.deep_linear.problems import Matrix, Truth
from hpcembed.networks.deep_linear.sensing import Sensing
from hpcembed.runtime.arguments import check_count, is_number
from hpcembed.runtime.counter_random import row_keys, uniform
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.ranks import communicator, ownership_range

__all__ = ["completion_of", "published_target", "random_table", "sensing_of"]


def published_target(
    d: int, rank: int, seed: int = 0, *, spread: bool = True, condition: float | None = None
) -> Truth:
    """Return a square matrix of low rank with singular vectors of a Gaussian matrix.

    Parameters
    ----------
    d, rank : int
        Dimension and rank; rank is at most d / 2.
    seed : int
    spread : bool, default=True
        Take vectors and values at the positions 0, d/(2 rank), ...; else the dominant ones.
    condition : float, optional
        Singular values fall geometrically from the largest to this fraction of it; else they are
        those of the Gaussian matrix.

    Examples
    --------
    >>> truth = published_target(100, 5)
    >>> truth.left.shape, truth.right.shape
    ((100, 5), (100, 5))
    """
    check_count("d", d)
    check_count("rank", rank)
    if 2 * rank > d:
        raise ConfigError(f"rank = {rank} exceeds half of d = {d}: reduce it")
    U, s, Vt = np.linalg.svd(np.random.default_rng(seed).standard_normal((d, d)))
    places = (np.arange(rank) * d / (2 * rank)).astype(int) if spread else np.arange(rank)
    values = s[places]
    if condition is not None:
        values = s[0] * np.geomspace(1, 1 / condition, rank)
    return Truth(U[:, places] * values, np.ascontiguousarray(Vt[places].T))


def completion_of(truth: Truth, share: float, seed: int = 0) -> Completion:
    """Return the completion of a matrix on one rank, with a share of its cells seen.

    Examples
    --------
    >>> completion_of(published_target(20, 2), 0.3).n_measurements
    120
    """
    if not is_number(share) or not 0 < share <= 1:
        raise ConfigError(f"share must lie between 0 and 1, got {share!r}")
    matrix = truth.left @ truth.right.T
    cells = np.random.default_rng([seed, 1]).choice(
        matrix.size, int(share * matrix.size), replace=False
    )
    places = np.unravel_index(cells, matrix.shape)
    return Completion(scipy.sparse.coo_array((matrix[places], places), matrix.shape), truth=truth)


def sensing_of(truth: Truth, measurements: int, seed: int = 0) -> Sensing:
    """Return the sensing of a matrix by Gaussian matrices over the number of measurements.

    Examples
    --------
    >>> sensing_of(published_target(10, 1), 60).n_measurements
    60
    """
    check_count("measurements", measurements)
    matrix = truth.left @ truth.right.T
    rng = np.random.default_rng([seed, 2])
    matrices = rng.standard_normal((measurements, *matrix.shape))
    matrices /= measurements
    values = matrices.reshape(measurements, -1) @ matrix.reshape(-1)
    return Sensing(matrices, values, truth)


def random_table(
    shape: tuple[int, int],
    rank: int,
    entries_per_row: int,
    comm: MPI.Intracomm | None = None,
    *,
    held_out_per_row: int = 1,
    seed: int = 0,
) -> tuple[Completion, Any]:
    """Return the completion of a random sparse table, and other entries of it.

    Collective on `comm`. Factors are standard normal, columns uniform; both are functions of
    (seed, index), so the table does not depend on the number of ranks.

    Parameters
    ----------
    shape : tuple of int
    rank : int
    entries_per_row : int
        Columns drawn for each row; columns drawn twice count once.
    comm : MPI.Intracomm, optional
        Default: this process alone.
    held_out_per_row : int
    seed : int

    Returns
    -------
    problem : Completion
        With its truth.
    held_out : csr_array of shape (n_local, n)
        Entries of this rank's rows that are not seen.

    Examples
    --------
    >>> problem, held_out = random_table((50, 40), 2, 12)
    >>> problem.shape, held_out.shape
    ((50, 40), (50, 40))
    """
    comm = communicator(comm)
    for name, count in (("rank", rank), ("entries_per_row", entries_per_row)):
        check_count(name, count)
    m, n = shape
    first, last = ownership_range(m, comm)
    left = _normal(seed, 0, first, last, rank)
    right = _normal(seed, 1, 0, n, rank)
    drawn = entries_per_row + held_out_per_row
    keys = row_keys(3 * seed + 2, np.arange(first * drawn, last * drawn))
    columns = (uniform(keys) * n).astype(np.int32).reshape(last - first, drawn)
    seen = _pattern(columns[:, :entries_per_row], n)
    held_out = _pattern(columns[:, entries_per_row:], n)
    # cells of both are seen ones
    held_out = scipy.sparse.csr_array(held_out - held_out.multiply(seen))
    held_out.eliminate_zeros()
    for table in (seen, held_out):
        table.data = entries_of_product(table.indptr, table.indices, left, right)
    return Completion(seen, comm, truth=Truth(left, right)), held_out


def _pattern(columns: NDArray[np.int32], n: int) -> Any:
    """Return a CSR array with ones at these columns of each row, duplicates counted once."""
    rows, drawn = columns.shape
    pattern = scipy.sparse.csr_array(
        (np.ones(columns.size), columns.reshape(-1), np.arange(rows + 1) * drawn), shape=(rows, n)
    )
    pattern.sum_duplicates()
    pattern.data[:] = 1.0
    return pattern


def _normal(seed: int, stream: int, first: int, last: int, rank: int) -> Matrix:
    """Return rows first..last-1 of a standard normal factor."""
    keys = row_keys(3 * seed + stream, np.arange(first * rank, last * rank))
    return np.asarray(scipy.special.ndtri(uniform(keys))).reshape(last - first, rank)
