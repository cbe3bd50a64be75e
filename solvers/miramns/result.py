"""The answer of a solver, its convergence history, and the reason why the solver stopped."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from miramns.norms import EPSILON

if TYPE_CHECKING:
    from miramns.factorization.arnoldi import ArnoldiFactorization
    from miramns.residuals import Eigenpairs


class ConvergedReason(IntEnum):
    """Why a solver stopped. A negative value means that a requested pair did not converge.

    Examples
    --------
    >>> from miramns import ConvergedReason
    >>> ConvergedReason.DIVERGED_ITS.remedy
    'the limit of restarts was reached: raise max_it or ncv, or loosen tol'
    """

    CONVERGED_TOL = 1
    CONVERGED_ROUNDING = 2
    DIVERGED_ITS = -1
    DIVERGED_STAGNATED = -2

    @property
    def remedy(self) -> str:
        """The meaning of the reason, and a remedy."""
        return _REMEDIES[self]


_REMEDIES = {
    ConvergedReason.CONVERGED_TOL: "all requested pairs have true residuals below the tolerance",
    ConvergedReason.CONVERGED_ROUNDING: (
        "true residuals are below the tolerance or, for eigenvalues that are small beside the norm "
        "of the operator, at its rounding: these eigenvalues have an absolute accuracy only"
    ),
    ConvergedReason.DIVERGED_ITS: (
        "the limit of restarts was reached: raise max_it or ncv, or loosen tol"
    ),
    ConvergedReason.DIVERGED_STAGNATED: (
        "the residuals do not fall, or their estimates pass but the true residuals do not: the "
        "operator is not the same at every call, is not Hermitian as declared, or tol is below "
        "the accuracy to which rounding determines its eigenvalues (rescale or balance a badly "
        "scaled one)"
    ),
}


@dataclass(frozen=True, slots=True)
class IterationRecord:
    """The projected problem at one nested size.

    Attributes
    ----------
    restart : int
        Number of previous restarts.
    size : int
        Dimension of the subspace.
    n_matvec : int
        Number of products so far.
    measure : float
        Distance from convergence: the largest residual estimate of a wanted pair relative to its
        eigenvalue (default), or the 2-norm of the k estimates over ||A||_F (published).
    n_converged : int
        Number of wanted pairs whose estimates pass.
    chosen : bool
        Whether the iteration ended at this size or restarted from it.
    values, estimates : tuple
        The wanted Ritz values, and their residual estimates in the units of the tolerance.

    Examples
    --------
    >>> import miramns
    >>> from petsc4py import PETSc
    >>> A = PETSc.Mat().createAIJ((50, 50), nnz=1, comm=PETSc.COMM_SELF)
    >>> for i in range(50):
    ...     A[i, i] = 0.5**i
    >>> A.assemble()
    >>> def monitor(record):
    ...     print(record.size, record.n_converged, record.chosen)
    >>> result = miramns.solve(A, k=2, hermitian=True, monitor=monitor)
    4 0 False
    6 0 False
    8 0 False
    10 2 True
    """

    restart: int
    size: int
    n_matvec: int
    measure: float
    n_converged: int
    chosen: bool
    values: tuple[complex, ...] = ()
    estimates: tuple[float, ...] = ()


#: A function that is called on every rank with each record.
Monitor = Callable[[IterationRecord], None]


class ConvergenceHistory:
    """The records of one iteration, in order.

    Attributes
    ----------
    records : list of IterationRecord
    """

    def __init__(self, monitor: Monitor | None = None) -> None:
        self.records: list[IterationRecord] = []
        self._monitor = monitor

    def add(self, record: IterationRecord) -> None:
        """Append a record, and call the monitor with it."""
        self.records.append(record)
        if self._monitor:
            self._monitor(record)

    def choose(self, size: int) -> None:
        """Mark the last record of a size as the one that the iteration restarts from."""
        for position in range(len(self.records) - 1, -1, -1):
            if self.records[position].size == size:
                self.records[position] = replace(self.records[position], chosen=True)
                return


#: Eigenpairs in the table of a notebook.
_SHOWN = 10


@dataclass(frozen=True, slots=True, repr=False)
class EigenResult:
    """Eigenpairs with true residuals and the cost of finding them.

    Attributes
    ----------
    eigenvalues : ndarray of shape (k,)
        Wanted ones first; float64 for Hermitian operators, complex128 otherwise. k is the number
        requested, or one more if that completes a complex conjugate pair.
    eigenvectors : ndarray of shape (n_local, k)
        This rank's rows; unit columns, column-major. The entry of largest modulus is real and
        positive (the first of them if several are equal to 8 digits).
    ownership_range : tuple of int
        First and last + 1 of the global rows on this rank.
    residual_norms : ndarray of shape (k,)
        True residual norms ``||A x - theta x||``, from products made for this purpose.
    residual_tolerances : ndarray of shape (k,)
        Largest residual norm with which each pair counts as converged: the tolerance requested, or
        the rounding of one product if that is more and determines the eigenvalue.
    error_bounds : ndarray of shape (k,)
        For Hermitian operators, an eigenvalue lies within this distance of each value: the residual
        norm, but at least rounding. For others, the residual norm bounds the backward error only.
    operator_norm : float
        A lower bound of ||A||, of the order of ||A||, which rounding is relative to.
    orthogonality : float
        Largest entry of ``|X'X - I|`` (Hermitian), of ``|V'V - I|`` for the basis otherwise.
    reason : ConvergedReason
        Why the solver stopped.
    n_matvec, n_certificate_matvec : int
        Number of products that found the answer, and that verified it.
    n_reductions, n_restarts : int
        Number of global reductions of the orthogonalisation, and of restarts.
    history : tuple of IterationRecord
        One record per test of a nested size, in order; empty for SLEPc's solvers.
    seconds : float
        Wall time on the slowest rank.
    solver : str
        The method and its subspace sizes.
    tie_at_cut : bool
        Whether the last value ties, to rounding or within its residual, with a value that is not
        returned: another copy of it, -a beside a for "LM", a complex value with the same real part
        for "LR". The order of ties is the same as in :func:`miramns.solve`. Another subspace of the
        same dimension would have been as good.
    condition_numbers : ndarray of shape (k,) or None
        For nonsymmetric operators, estimates from the projected problem: a perturbation of A of
        norm e moves an eigenvalue by this times e. None for Hermitian operators, whose condition
        numbers are 1, and for SLEPc's solvers.
    multiplicity_checked : bool
        Whether the complement of the answer was searched to the end for missing wanted pairs.
        Always False for nonsymmetric operators and SLEPc's solvers.
    n_found_missing : int
        Number of pairs computed after the search proved that one was missing: 1, 2, 4, ... at a
        time, so some of them may not be in the answer.
    decisions : tuple of str
        Subspace sizes chosen during the iteration, with the measurements behind them.
    orthogonality_level : float
        Largest entry of ``|V'V - I|`` of the partially reorthogonalised basis; 0 for a fully
        orthogonalised one.
    n_orthogonality_losses : int
        Number of times that this basis lost its orthogonality and was shortened.
    failure_probability : float
        0 if the residual norms are computed for every pair. Else they are bounds from random
        combinations of the pairs (:func:`miramns.certify_by_samples`), and one of them is exceeded
        with at most this probability.

    Examples
    --------
    >>> import miramns
    >>> from petsc4py import PETSc
    >>> A = PETSc.Mat().createAIJ((50, 50), nnz=1, comm=PETSc.COMM_SELF)
    >>> for i in range(50):
    ...     A[i, i] = i + 1.0
    >>> A.assemble()
    >>> result = miramns.solve(A, k=3, hermitian=True)
    >>> result.eigenvalues.round(8)
    array([50., 49., 48.])
    >>> result.eigenvectors.shape, result.converged, result.unconverged
    ((50, 3), True, ())
    >>> bool((result.residual_norms <= result.residual_tolerances).all())
    True
    """

    eigenvalues: NDArray[Any]
    eigenvectors: NDArray[Any]
    ownership_range: tuple[int, int]
    residual_norms: NDArray[np.float64]
    residual_tolerances: NDArray[np.float64]
    error_bounds: NDArray[np.float64]
    operator_norm: float
    orthogonality: float
    reason: ConvergedReason
    solver: str
    n_matvec: int = 0
    n_certificate_matvec: int = 0
    n_reductions: int = 0
    n_restarts: int = 0
    history: tuple[IterationRecord, ...] = ()
    seconds: float = 0.0
    tie_at_cut: bool = False
    multiplicity_checked: bool = False
    n_found_missing: int = 0
    decisions: tuple[str, ...] = ()
    orthogonality_level: float = 0.0
    n_orthogonality_losses: int = 0
    failure_probability: float = 0.0
    condition_numbers: NDArray[np.float64] | None = None

    @property
    def converged(self) -> bool:
        """Whether every requested pair converged."""
        return self.reason > 0

    @property
    def unconverged(self) -> tuple[int, ...]:
        """Positions of the pairs whose true residual does not pass."""
        return tuple(int(i) for i in np.flatnonzero(self.residual_norms > self.residual_tolerances))

    @property
    def n_converged(self) -> int:
        """Number of pairs whose true residual passes."""
        return len(self.eigenvalues) - len(self.unconverged)

    @property
    def relative_residuals(self) -> NDArray[np.float64]:
        """Residual norms over the modulus of the largest eigenvalue found, shape (k,)."""
        largest = float(np.max(np.abs(self.eigenvalues), initial=0.0))
        return self.residual_norms / largest if largest > 0 else self.residual_norms

    def __repr__(self) -> str:
        values = ", ".join(f"{value:.6g}" for value in self.eigenvalues[:3])
        more = ", ..." if len(self.eigenvalues) > 3 else ""
        return (
            f"<EigenResult: {self.n_converged} of {len(self.eigenvalues)} eigenpairs converged, "
            f"{self.reason.name}, eigenvalues {values}{more}>"
        )

    def _repr_html_(self) -> str:
        """Return the summary and a table of the pairs, for notebooks."""
        rows = "".join(
            f"<tr><td>{i + 1}</td><td>{value:.10g}</td><td>{norm:.1e}</td></tr>"
            for i, (value, norm) in enumerate(
                zip(self.eigenvalues[:_SHOWN], self.residual_norms[:_SHOWN], strict=True)
            )
        )
        hidden = len(self.eigenvalues) - _SHOWN
        more = f"<p>and {hidden} more eigenpairs</p>" if hidden > 0 else ""
        return (
            f"<pre>{html.escape(self.view())}</pre><table><thead><tr><th></th><th>eigenvalue</th>"
            f"<th>residual norm</th></tr></thead><tbody>{rows}</tbody></table>{more}"
        )

    def view(self) -> str:
        """Return a summary of the answer and its cost in a few lines."""
        lines = [
            f"{self.solver}: {self.n_converged} of {len(self.eigenvalues)} eigenpairs in "
            f"{self.n_matvec} products, {self.n_restarts} restarts, {self.n_reductions} "
            f"reductions, {self.seconds:.3g} s",
            f"  {self.reason.name}: {self.reason.remedy}",
            f"  largest true residual {np.max(self.relative_residuals, initial=0.0):.1e} of the "
            f"largest eigenvalue, orthogonality {self.orthogonality:.1e}",
        ]
        if self.n_found_missing:
            lines.append(f"  the multiplicity check computed {self.n_found_missing} more pairs")
        if self.tie_at_cut:
            lines.append("  the last eigenvalue ties with one that is not returned")
        is_hermitian = not np.iscomplexobj(self.eigenvalues)
        if self.converged and is_hermitian and not self.multiplicity_checked:
            lines.append("  further copies of multiple eigenvalues were not searched to the end")
        lines += [f"  {decision}" for decision in self.decisions]
        return "\n".join(lines)


def eigen_result(
    pairs: Eigenpairs,
    reason: ConvergedReason,
    factorization: ArnoldiFactorization,
    history: ConvergenceHistory,
    *,
    solver: str,
    n_restarts: int,
    n_certificate_matvec: int,
    decisions: Sequence[str] = (),
) -> EigenResult:
    """Return the result of an iteration that ends with `pairs`, without its seconds."""
    f = factorization
    return EigenResult(
        eigenvalues=pairs.values,
        eigenvectors=pairs.vectors,
        ownership_range=f.rows,
        residual_norms=pairs.residual_norms,
        residual_tolerances=pairs.tolerances,
        error_bounds=np.maximum(pairs.residual_norms, EPSILON * f.operator_norm),
        operator_norm=f.operator_norm,
        orthogonality=pairs.orthogonality,
        reason=reason,
        n_matvec=f.n_matvec,
        n_certificate_matvec=n_certificate_matvec,
        n_reductions=f.n_reductions,
        n_restarts=n_restarts,
        history=tuple(history.records),
        solver=solver,
        tie_at_cut=pairs.tie_at_cut,
        decisions=tuple(decisions),
        orthogonality_level=f.orthogonality_level,
        n_orthogonality_losses=f.n_orthogonality_losses,
        condition_numbers=pairs.condition_numbers,
    )
