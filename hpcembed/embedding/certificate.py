"""The verdict on an eigenproblem, as embeddings keep it: converged, and contradicted by nobody."""

from __future__ import annotations

from mpi4py import MPI

from hpcembed.embedding.reference import Comparison, compare
from miramns import EigenResult

__all__ = ["Certificate"]


class Certificate:
    """Base of estimators whose embedding is the answer of one eigenproblem.

    Attributes
    ----------
    result_ : EigenResult
        The solver's answer with its certificate; rows of the vectors distributed.
    reference_ : EigenResult or None
        Of a reference solver, where one was asked for.
    comparison_ : Comparison or None
        How far it lies from the answer.
    reference_sin_angle_ : float
        Largest angle to its subspace; NaN without reference.
    certified_ : bool
        Every pair meets its tolerance, and no reference has a larger eigenvalue in its place.
    converged_reason_ : str
    n_requested_ : int
        Pairs that were asked for.
    """

    result_: EigenResult
    reference_: EigenResult | None
    comparison_: Comparison | None
    n_requested_: int
    certified_: bool
    converged_reason_: str
    reference_sin_angle_: float

    def _judge(
        self,
        comm: MPI.Comm,
        result: EigenResult,
        reference: EigenResult | None,
        *,
        tol: float,
        n_requested: int,
    ) -> None:
        """Keep an answer with what is to be said of it. Collective.

        Parameters
        ----------
        tol : float
            That the job gave, for the comparison and for :meth:`failure_text`.
        """
        self.result_, self.reference_, self.n_requested_ = result, reference, n_requested
        self.converged_reason_ = result.reason.name
        self.comparison_ = None if reference is None else compare(comm, result, reference, tol)
        compared = self.comparison_
        self.reference_sin_angle_ = compared.sin_angle if compared else float("nan")
        self.certified_ = result.converged and not (compared and compared.exceeded)
        self._tol = tol

    def failure_text(self) -> str:
        """Which eigenpairs missed their tolerance, and what to do. Not collective."""
        result, comparison = self.result_, self.comparison_
        if comparison is not None and comparison.exceeded:
            assert self.reference_ is not None  # it is what was compared with
            listed = _listed([i + 1 for i in comparison.exceeded])
            return (
                f"eigenpairs {listed} are not the dominant ones: {self.reference_.solver} has "
                "larger eigenvalues there; raise solver.ncv or try another solver.seed"
            )
        missed = [i + 1 for i in result.unconverged]
        missed += range(len(result.eigenvalues) + 1, self.n_requested_ + 1)
        remedy = result.reason.remedy
        return f"eigenpairs {_listed(missed)} missed the tolerance {self._tol:g}: {remedy}"


def _listed(pairs: list[int]) -> str:
    return ", ".join(map(str, pairs[:10])) + (" and more" if len(pairs) > 10 else "")
