"""What a solver hands back: eigenpairs with everything needed to judge them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miramns.convergence import Reason

__all__ = ["Check", "EigenResult"]


@dataclass(frozen=True, slots=True)
class Check:
    """One look at the projected problem of one nested size.

    Attributes
    ----------
    restart : int
        Restarts made before.
    size : int
        Size of the subspace.
    n_matvec : int
        Products made up to then.
    measure : float
        How far the subspace is from the answer: the largest residual estimate of a wanted pair
        relative to its eigenvalue (default), or the 2-norm of the k estimates over ||A||_F
        (published).
    n_converged : int
        Wanted pairs whose estimates pass.
    chosen : bool
        Whether the run ended at this size or restarted from it.
    values, estimates : tuple
        The wanted Ritz values, and their residual estimates relative to what the convergence test
        says; empty where the run does not hand them out.
    """

    restart: int
    size: int
    n_matvec: int
    measure: float
    n_converged: int
    chosen: bool
    values: tuple[complex, ...] = ()
    estimates: tuple[float, ...] = ()

    def as_chosen(self) -> Check:
        """The same look, marked as the one that decided."""
        return replace(self, chosen=True)


@dataclass(frozen=True, slots=True)
class EigenResult:
    """Dominant eigenpairs with their certificate.

    Attributes
    ----------
    eigenvalues : ndarray of shape (k,)
        Wanted ones first; float64 for Hermitian operators, complex128 otherwise. k is the number
        asked for, or one more where a complex conjugate pair would have been cut.
    eigenvectors : ndarray of shape (n_local, k)
        This rank's rows, unit columns, column-major. The entry of largest modulus is real and
        positive (the first such one, when several are equal to 8 digits).
    ownership_range : tuple of int
        Global rows that the rank holds.
    residual_norms : ndarray of shape (k,)
        True residuals ``||A x - theta x||``, from products made for this purpose.
    bounds : ndarray of shape (k,)
        What each residual had to stay below.
    error_bounds : ndarray of shape (k,)
        Bounds on the eigenvalue errors of Hermitian operators: there is an eigenvalue within this
        distance. It is the residual norm, but not less than rounding. For nonsymmetric ones the
        residual bounds the backward error only.
    orthogonality : float
        Largest entry of ``|X'X - I|`` (Hermitian), of ``|V'V - I|`` for the basis otherwise.
    n_converged : int
        Pairs whose true residual passes.
    reason : Reason
        Why the solver stopped.
    n_matvec, n_certificate_matvec : int
        Products to find the answer, and to certify it.
    n_reductions, n_restarts : int
        Global reductions of the orthogonalisation, and restarts.
    history : tuple of Check
        Every look at a nested size, in order; empty for SLEPc's solvers.
    seconds : float
        Wall time on the slowest rank.
    solver : str
        Which method, with its sizes.
    tie_at_cut : bool
        Whether the last value ties, to rounding or within its residual, with another one that was
        seen and is not returned: a copy of it, -a beside a for "LM", or a complex value of equal
        real part for "LR". The first in the order of :func:`miramns.solve` are returned; the space
        of the vectors is one of several that are as good.
    multiplicity_checked : bool
        Whether the complement of the answer was searched and holds nothing that belongs to it. Not
        done for nonsymmetric operators and SLEPc's solvers; "auto" gives up on slow ones.
    n_found_missing : int
        Pairs that were fetched because the search proved that one was missing: 1, 2, 4, ... at a
        time, so some may have turned out not to be wanted.
    decisions : tuple of str
        What was chosen while running, and from which measurements.
    orthogonality_level : float
        Largest entry of ``|V'V - I|`` that the partially reorthogonalised basis had before it was
        settled; 0 where it is orthogonalised fully.
    n_mended : int
        Times that its orthogonality was found lost and was restored.
    """

    eigenvalues: NDArray[Any]
    eigenvectors: NDArray[Any]
    ownership_range: tuple[int, int]
    residual_norms: NDArray[np.float64]
    bounds: NDArray[np.float64]
    error_bounds: NDArray[np.float64]
    orthogonality: float
    n_converged: int
    reason: Reason
    n_matvec: int
    n_certificate_matvec: int
    n_reductions: int
    n_restarts: int
    history: tuple[Check, ...]
    seconds: float
    solver: str
    tie_at_cut: bool = False
    multiplicity_checked: bool = False
    n_found_missing: int = 0
    decisions: tuple[str, ...] = ()
    orthogonality_level: float = 0.0
    n_mended: int = 0

    @property
    def converged(self) -> bool:
        """Whether every requested pair passes."""
        return self.reason > 0

    @property
    def missed(self) -> tuple[int, ...]:
        """Positions of the pairs whose true residual does not pass."""
        return tuple(int(i) for i in np.flatnonzero(self.residual_norms > self.bounds))

    @property
    def relative_residuals(self) -> NDArray[np.float64]:
        """Residual norms over the modulus of the largest eigenvalue found, shape (k,)."""
        largest = float(np.max(np.abs(self.eigenvalues), initial=0.0))
        return self.residual_norms / largest if largest > 0 else self.residual_norms

    def view(self) -> str:
        """Say in a few lines what was found and how. Not collective."""
        lines = [
            f"{self.solver}: {self.n_converged} of {len(self.eigenvalues)} eigenpairs in "
            f"{self.n_matvec} products, {self.n_restarts} restarts, {self.n_reductions} "
            f"reductions, {self.seconds:.3g} s",
            f"  {self.reason.name}: {self.reason.remedy}",
            f"  largest true residual {np.max(self.relative_residuals, initial=0.0):.1e} of the "
            f"largest eigenvalue, orthogonality {self.orthogonality:.1e}",
        ]
        if self.n_found_missing:
            lines.append(f"  {self.n_found_missing} pairs were fetched by the multiplicity check")
        if self.tie_at_cut:
            lines.append("  the last eigenvalue ties with one that is not returned")
        is_hermitian = not np.iscomplexobj(self.eigenvalues)
        if self.converged and is_hermitian and not self.multiplicity_checked:
            lines.append("  not searched to the end: further copies of multiple eigenvalues")
        lines += [f"  {decision}" for decision in self.decisions]
        return "\n".join(lines)
