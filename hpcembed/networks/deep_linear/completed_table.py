"""Completed table of users, items and ratings: offsets, factors, errors, and predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcembed.networks.deep_linear.problems import Matrix
from hpcembed.networks.deep_linear.table_fits import Candidate
from hpcembed.runtime.errors import InputError

__all__ = ["TableCompletion"]


@dataclass(frozen=True, eq=False, repr=False)
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
        By rank and ridge; empty if both were given.
    n_training, n_validation, n_test, duplicates : int
        Numbers of entries; validation entries are part of the final model's training entries, which
        `n_training` does not count. `duplicates` repeated a pair, whose mean value is used.
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
        Numbers of the factors and, with offsets, of the offsets and the mean.
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
    seconds: dict[str, float]

    def __repr__(self) -> str:
        return (
            f"<TableCompletion: {len(self.users)} x {len(self.items)}, rank {self.rank}, "
            f"test RMSE {self.test_rmse:.4f}>"
        )

    def __str__(self) -> str:
        entries = f"{self.n_training:,} training, {self.n_validation:,} validation, "
        lines = [
            f"table: {len(self.users):,} users, {len(self.items):,} items; "
            f"entries: {entries}{self.n_test:,} test"
        ]
        if self.duplicates:
            repeat = "entry repeats" if self.duplicates == 1 else "entries repeat"
            lines.append(
                f"{self.duplicates:,} {repeat} an earlier pair of user and item: the mean of the "
                "values of each pair is used"
            )
        errors = f"test RMSE {self.test_rmse:.4f}; offsets alone {self.offsets_rmse:.4f}"
        if math.isnan(self.test_rmse):
            errors = "no test entries"
        of_offsets = self.parameters > self.rank * (len(self.users) + len(self.items))
        included = ", offsets and mean included" if of_offsets else ""
        lines.append(
            f"rank {self.rank}, ridge {self.ridge:g}: {errors}; "
            f"{self.parameters:,} parameters{included}; {sum(self.seconds.values()):.2f} s"
        )
        return "\n".join(lines)

    def predict(self, users: Sequence[Any], items: Sequence[Any]) -> NDArray[np.float64]:
        """Return predicted values of pairs of users and items.

        Not collective. A pair with an unknown user or an unknown item has no part of the factors:
        its prediction is the mean plus the offset of the known one, or the mean alone.

        Parameters
        ----------
        users, items : sequence of str or int
            Names, one user and one item for each pair.

        Returns
        -------
        ndarray of shape (pairs,)
            Within `limits`.

        Raises
        ------
        InputError
            The lengths differ, or there is one name in place of a sequence.
        """
        for kind, names in (("users", users), ("items", items)):
            if isinstance(names, str):
                raise InputError(f"{names!r} is one name: give a sequence of {kind}")
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
