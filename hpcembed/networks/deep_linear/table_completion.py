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

from mpi4py import MPI

from hpcembed.networks.deep_linear.completed_table import TableCompletion
from hpcembed.networks.deep_linear.shared_triplets import Source, shared_triplets
from hpcembed.networks.deep_linear.table_fits import Candidate, FinalFit, TableFits
from hpcembed.networks.deep_linear.triplets import Separator, Triplets
from hpcembed.runtime.agreement import same_on_all_ranks
from hpcembed.runtime.arguments import check_count, is_integer, is_number
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.ranks import allgather_rows, communicator

__all__ = ["complete_table"]

_RANKS = (2, 5, 10, 20)
_RIDGES = (0.0, 0.02, 0.05, 0.1, 0.2)


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
        Default: those of `ranks` and `ridges` with the least error on validation entries. The rank
        is at most the smaller of the numbers of users and items.
    offsets : bool, default=True
        Remove the mean, and offsets of users and items, before factors are fitted.
    test : path, or tuple of three arrays, optional
        Test entries, in place of a share of `source`. Users and items that `source` does not
        contain are predicted by offsets.
    test_share, validation_share : float
        Shares of the entries; validation entries are a share of those that are not test entries,
        and are used only where rank or ridge is chosen.
    ranks, ridges : sequence
        Candidates. Ranks above the smaller of the numbers of users and items are replaced by it.
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
        An argument is out of range, or the rank exceeds a dimension of the table.

    See Also
    --------
    hpcembed.write_completion, hpcembed.load_completion

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> users, items = np.divmod(rng.permutation(1200)[:800], 30)
    >>> values = np.sin(users) * np.cos(items)
    >>> table = complete_table((users, items, values), rank=1, ridge=0.0, offsets=False)
    >>> table.n_training, table.n_test, bool(table.test_rmse < 1e-3)
    (720, 80, True)
    >>> table.predict([5, 5], [7, "unknown"]).shape
    (2,)
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
    if rank is not None and rank > min(fits.shape):
        raise ConfigError(
            f"rank = {rank} exceeds {min(fits.shape)}, the smaller dimension of the table: "
            "reduce it"
        )
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
    held_out = n_validation, n_test
    return _completion(comm, entries, fit, ridge, candidates, held_out, offsets, seconds)


def _completion(
    comm: MPI.Intracomm,
    entries: Triplets,
    fit: FinalFit,
    ridge: float,
    candidates: tuple[Candidate, ...],
    held_out: tuple[int, int],
    offsets: bool,
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
        parameters=recovery.parameters
        + (len(entries.users) + len(entries.items) + 1 if offsets else 0),
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
