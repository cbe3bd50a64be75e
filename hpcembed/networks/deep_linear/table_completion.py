"""Completion of a table of triplets: users, items and ratings, from a file or arrays.

Entries are divided at random into training, validation and test entries. Offsets of users and items
are removed, and the rest is completed by alternating least squares with a ridge, from a spectral
start. A rank and a ridge that are not given are those of the least error on the validation entries:
first the ridge, at the middle rank of the candidates, then the rank. The final model is fitted to
training and validation entries together; the test entries are used once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.networks.deep_linear.problems import Matrix
from hpcembed.networks.deep_linear.shared_triplets import Source, shared_triplets
from hpcembed.networks.deep_linear.table_fits import Candidate, FinalFit, TableFits
from hpcembed.networks.deep_linear.triplets import Separator, Triplets
from hpcembed.runtime.agreement import same_on_all_ranks
from hpcembed.runtime.arguments import check_count, is_integer, is_number
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import allgather_rows, communicator

__all__ = ["Candidate", "TableCompletion", "complete_table"]

_RANKS = (2, 5, 10, 20)
_RIDGES = (0.0, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, eq=False)
class TableCompletion:
    """A completed table. All fields are the same on every rank.

    Attributes
    ----------
    users, items : tuple of str
        Names.
    mean : float
    user_offsets, item_offsets : ndarray of shape (users,), (items,)
        All three are zero without offsets.
    user_factors, item_factors : ndarray of shape (users, rank), (items, rank)
    limits : tuple of float
        Smallest and largest training value; predictions are clipped to them.
    rank : int
    ridge : float
    candidates : tuple of Candidate
        Empty if rank and ridge were given.
    n_training, n_validation, n_test, duplicates : int
        Numbers of entries; validation entries are part of the final model's training entries, which
        `n_training` does not count.
    training_rmse, validation_rmse, test_rmse : float
        Root mean square errors of the final model, the best candidate and the final model; NaN
        without entries.
    offsets_rmse : float
        Test error of the offsets alone.
    iterations : int
    converged_reason : str
    start_residual : float
        Largest residual of the singular vectors of the final start.
    parameters : int
    seconds : dict of str to float
        ``read``, ``choose``, ``fit``.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    mean: float
    user_offsets: NDArray[np.float64]
    item_offsets: NDArray[np.float64]
    user_factors: Matrix
    item_factors: Matrix
    limits: tuple[float, float]
    rank: int
    ridge: float
    candidates: tuple[Candidate, ...]
    n_training: int
    n_validation: int
    n_test: int
    duplicates: int
    training_rmse: float
    validation_rmse: float
    test_rmse: float
    offsets_rmse: float
    iterations: int
    converged_reason: str
    start_residual: float
    parameters: int
    seconds: dict[str, float] = field(repr=False)

    def predict(self, users: Sequence[Any], items: Sequence[Any]) -> NDArray[np.float64]:
        """Return predicted values of pairs; the offsets alone for unknown users or items.

        Not collective.
        """
        if len(users) != len(items):
            raise InputError(f"{len(users)} users and {len(items)} items: give one item each")
        user_numbers = {name: number for number, name in enumerate(self.users)}
        item_numbers = {name: number for number, name in enumerate(self.items)}
        found = np.full(len(users), self.mean)
        for k, (user, item) in enumerate(zip(users, items, strict=True)):
            i, j = user_numbers.get(str(user)), item_numbers.get(str(item))
            found[k] += 0.0 if i is None else self.user_offsets[i]
            found[k] += 0.0 if j is None else self.item_offsets[j]
            if i is not None and j is not None:
                found[k] += self.user_factors[i] @ self.item_factors[j]
        return np.clip(found, *self.limits)


def complete_table(
    source: Source,
    rank: int | None = None,
    *,
    ridge: float | None = None,
    offsets: bool = True,
    test: Source | None = None,
    test_share: float = 0.1,
    validation_share: float = 0.1,
    ranks: Sequence[int] = _RANKS,
    ridges: Sequence[float] = _RIDGES,
    separator: Separator = "auto",
    header: bool | None = None,
    max_iterations: int = 50,
    seed: int = 0,
    comm: MPI.Intracomm | None = None,
) -> TableCompletion:
    """Complete a table of users, items and ratings, and measure its error on test entries.

    Collective on `comm`. Rank 0 reads; rows (users) are distributed.

    Parameters
    ----------
    source : path, or tuple of three arrays
        File of triplets (:func:`~hpcembed.networks.deep_linear.triplets.read_triplets`), or users,
        items and values.
    rank, ridge : int, float, optional
        Default: those of `ranks` and `ridges` with the least error on validation entries.
    offsets : bool, default=True
        Remove the mean, and offsets of users and items, before factors are fitted.
    test : path, or tuple of three arrays, optional
        Test entries, in place of a share of `source`. Users and items that `source` does not
        contain are predicted by offsets.
    test_share, validation_share : float
        Shares of the entries; validation entries are a share of those that are not test entries,
        and are used only where rank or ridge is chosen.
    ranks, ridges : sequence
        Candidates.
    separator, header
        As for :func:`~hpcembed.networks.deep_linear.triplets.read_triplets`.
    max_iterations : int
        Of the final fit.
    seed : int
        Of the division of the entries and the solver's start vectors.
    comm : MPI.Intracomm, optional
        Default: this process alone.

    Returns
    -------
    TableCompletion

    Raises
    ------
    InputError
        The entries cannot be used; the message names the file and the line.
    ConfigError
        An argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> users, items = np.divmod(rng.permutation(1200)[:800], 30)
    >>> values = np.sin(users) * np.cos(items)
    >>> table = complete_table((users, items, values), rank=1, ridge=0.0, offsets=False)
    >>> table.n_training, table.n_test, bool(table.test_rmse < 1e-3)
    (720, 80, True)
    """
    comm = communicator(comm)
    _check(rank, ridge, test_share, validation_share, ranks, ridges, max_iterations, seed)
    same_on_all_ranks(
        comm, rank=rank, ridge=ridge, offsets=offsets, test_share=test_share, seed=seed,
        validation_share=validation_share, ranks=tuple(ranks), ridges=tuple(ridges),
        max_iterations=max_iterations,
    )  # fmt: skip
    began = time.perf_counter()
    entries, n_test = shared_triplets(
        comm, source, test, test_share=test_share, separator=separator, header=header, seed=seed
    )
    read = time.perf_counter()
    fits = TableFits(entries, n_test, offsets, seed, comm)
    candidates: tuple[Candidate, ...] = ()
    if rank is None or ridge is None:
        candidates = fits.choose(
            [rank] if rank else ranks, [ridge] if ridge is not None else ridges, validation_share
        )
        best = min(candidates, key=lambda one: one.rmse)
        rank, ridge = best.rank, best.ridge
    chosen = time.perf_counter()
    fit = fits.fit(rank, ridge, max_iterations)
    seconds = {"read": read - began, "choose": chosen - read, "fit": time.perf_counter() - chosen}
    n_validation = fits.n_validation(validation_share) if candidates else 0
    return _completion(comm, entries, fit, ridge, candidates, (n_validation, n_test), seconds)


def _completion(
    comm: MPI.Intracomm,
    entries: Triplets,
    fit: FinalFit,
    ridge: float,
    candidates: tuple[Candidate, ...],
    held_out: tuple[int, int],
    seconds: dict[str, float],
) -> TableCompletion:
    """Gather the result on every rank. Collective."""
    recovery, start = fit.recovery, fit.recovery.start
    n_validation, n_test = held_out
    return TableCompletion(
        users=entries.users,
        items=entries.items,
        mean=fit.offsets.mean,
        user_offsets=allgather_rows(comm, fit.offsets.users),
        item_offsets=fit.offsets.items,
        user_factors=allgather_rows(comm, recovery.left),
        item_factors=recovery.right,
        limits=fit.limits,
        rank=recovery.rank,
        ridge=ridge,
        candidates=candidates,
        n_training=len(entries.values) - n_validation - n_test,
        n_validation=n_validation,
        n_test=n_test,
        duplicates=entries.duplicates,
        training_rmse=fit.training_rmse,
        validation_rmse=min((one.rmse for one in candidates), default=math.nan),
        test_rmse=fit.test_rmse,
        offsets_rmse=fit.offsets_rmse,
        iterations=recovery.iterations,
        converged_reason=recovery.reason.value,
        start_residual=float(start.residual_norms.max()) if start else math.nan,
        parameters=recovery.parameters,
        seconds=seconds,
    )


def _check(
    rank: int | None,
    ridge: float | None,
    test_share: float,
    validation_share: float,
    ranks: Sequence[int],
    ridges: Sequence[float],
    max_iterations: int,
    seed: int,
) -> None:
    check_count("rank", rank, optional=True)
    check_count("max_iterations", max_iterations)
    if ridge is not None and (not is_number(ridge) or ridge < 0):
        raise ConfigError(f"ridge must be a number of at least 0 or None, got {ridge!r}")
    for name, share in (("test_share", test_share), ("validation_share", validation_share)):
        if not is_number(share) or not 0 <= share < 1:
            raise ConfigError(f"{name} must be at least 0 and less than 1, got {share!r}")
    if validation_share == 0 and (rank is None or ridge is None):
        raise ConfigError("validation_share = 0: give rank and ridge, or validation entries")
    if not ranks or not ridges:
        raise ConfigError("ranks and ridges must have at least one candidate each")
    for one in ranks:
        check_count("each of ranks", one)
    for ridge_ in ridges:
        if not is_number(ridge_) or ridge_ < 0:
            raise ConfigError(f"each of ridges must be a number of at least 0, got {ridge_!r}")
    if not is_integer(seed) or seed < 0:
        raise ConfigError(f"seed must be an integer of at least 0, got {seed!r}")
