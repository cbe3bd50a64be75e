"""Vectors from co-occurrence counts: dominant eigenpairs of their mutual information, scaled.

Base of :class:`~hpcembed.embedding.WordVectors` and of the embedding of tables by shared rows,
:class:`~hpcembed.embedding.CooccurrenceEmbedding`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.embedding._eigensolver import Eigensolver
from hpcembed.embedding._estimator import CertifiedEstimator
from hpcembed.operators.cooccurrence.cooccurrence_matrix import CooccurrenceMatrix
from hpcembed.operators.cooccurrence.mutual_information import (
    check_information,
    positive_information,
)
from hpcembed.runtime.arguments import check_count, is_number
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.ranks import allgather_rows, timed

__all__ = ["InformationEmbedding"]


class InformationEmbedding(CertifiedEstimator):
    """Base of estimators of vectors from co-occurrence counts.

    Subclasses have the parameters ``n_components``, ``shift``, ``smoothing``, ``power``, ``tol``,
    ``random_state`` and ``solver``.
    """

    n_components: int
    shift: float
    smoothing: float
    power: float
    tol: float

    #: The information is sparse.
    _has_dense_operator = False

    def _check_parameters(self) -> None:
        check_information(self.shift, self.smoothing)
        check_count("n_components", self.n_components)
        if not is_number(self.power):
            raise ConfigError(f"power must be a finite number, got {self.power!r}")
        if self.power < 0:
            raise ConfigError(f"power must not be negative, got {self.power!r}")
        super()._check_parameters()

    def _find_vectors(
        self,
        comm: MPI.Intracomm,
        count: Callable[[], CooccurrenceMatrix],
        seed: int,
        available_bytes: int,
    ) -> tuple[NDArray[np.float64], tuple[Any, ...]]:
        """Count, form the information, find its eigenpairs, and scale their vectors.

        Collective.

        Parameters
        ----------
        count : callable
            Returns the counts; nothing else may hold them, as their memory is used again.

        Returns
        -------
        vectors : ndarray of shape (n, k)
            ``U |Lambda|^power`` on every rank.
        found : tuple
            Solver, result and reference, for the certificate.
        """
        k, settings = int(self.n_components), self._settings
        solver = Eigensolver(k, self.tol, seed, settings, available_bytes, "LM")
        self.seconds_ = {}
        with timed(comm, self.seconds_, "operator"):
            information = positive_information(count(), shift=self.shift, smoothing=self.smoothing)
            self.n_nonzeros_ = information.n_nonzeros
            # rows without entries: their part of an eigenvector is rounding
            is_empty = np.diff(information.rows.indptr) == 0
            mat = information.create_mat()
            del information  # the Mat has its own copy
        try:
            with timed(comm, self.seconds_, "solve"):
                result = solver.solve(mat)
            reference = solver.reference(mat)
        finally:
            mat.destroy()
        self.eigenvalues_ = values = np.asarray(result.eigenvalues)
        self.residual_norms_ = np.asarray(result.residual_norms)
        # vectors of an eigenvalue of zero are not unique, and hold no information
        scales = np.where(values == 0, 0.0, np.abs(values) ** self.power)
        vectors = np.ascontiguousarray(result.eigenvectors) * scales
        vectors[is_empty] = 0.0
        return allgather_rows(comm, vectors), (solver, result, reference)
