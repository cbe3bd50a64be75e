"""End of iterations that cannot converge.

A run whose residuals do not fall may be slow, or cannot converge because products with the operator
contradict each other: the operator is not the same at every call, or is not Hermitian as declared.
One wrong product is enough, because the factorisation contains it from then on, also after
restarts. The two are distinguished by the relation of the factorisation, ``A V = V H``: it holds to
rounding for a slow run. One product with a random combination of the columns tests it. So a slow
run is never ended, however slow it is, and a test costs one product. It is made

* when the true residuals do not pass although the estimates do;
* after some restarts without a decrease of the largest residual, and then less and less often.

A run also ends if residuals at the level of rounding do not decrease for many restarts: the
tolerance is below the accuracy of the operator.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from miramns.factorization.arnoldi import ArnoldiFactorization
from miramns.norms import ROUNDING
from miramns.products import apply_columns

#: Restarts without a decrease before the first test; each further test waits twice as long.
_RESTARTS = 5

#: A residual decreases if it is less than this fraction of the least so far.
_DECREASE = 0.99

#: Largest error of the relation, relative to ||A||, that rounding may cause over many restarts.
_CONSISTENT = 1000 * ROUNDING

#: Share of the least tolerance that a product may differ by if residuals do not decrease.
_SHARE = 0.1

#: Residuals below this, relative to ||A||, that do not decrease for so many restarts have reached
#: the accuracy of the operator.
_NEAR_ROUNDING = 500 * ROUNDING
_RESTARTS_NEAR_ROUNDING = 100


class Stagnation:
    """Test whether an iteration can converge.

    Parameters
    ----------
    factorization : ArnoldiFactorization

    Attributes
    ----------
    n_matvec : int
        Number of products of the tests.
    decisions : tuple of str
        The reason in numbers, for the result.
    """

    def __init__(self, factorization: ArnoldiFactorization) -> None:
        self.n_matvec = 0
        self.decisions: tuple[str, ...] = ()
        self._factorization = factorization
        self._least = np.inf
        self._since = 0
        self._test_at = _RESTARTS

    def at_restart(
        self, measure: float, estimates: NDArray[np.float64], tolerances: NDArray[np.float64]
    ) -> bool:
        """Return whether the iteration should end instead of this restart. Collective.

        Parameters
        ----------
        measure : float
            Distance from convergence.
        estimates, tolerances : ndarray of shape (k,)
            Of the wanted pairs.
        """
        if measure < _DECREASE * self._least:
            self._least, self._since = measure, 0
            return False
        self._since += 1
        limit = _NEAR_ROUNDING * self._factorization.operator_norm
        if self._since >= _RESTARTS_NEAR_ROUNDING and float(np.max(estimates)) <= limit:
            self.decisions = (f"no decrease in {self._since} restarts, at the level of rounding",)
            return True
        if self._since < self._test_at:
            return False
        self._test_at *= 2
        return self.contradicts(_SHARE * tolerances)

    def contradicts(self, tolerances: NDArray[np.float64]) -> bool:
        """Return whether a product contradicts the factorisation. Collective: one product."""
        norm = self._factorization.operator_norm
        error = relation_error(self._factorization)
        self.n_matvec += 1
        if error <= max(_CONSISTENT * norm, float(np.min(tolerances))):
            return False
        relative = error / norm if norm > 0 else error
        self.decisions = (
            f"a repeated product differs from those of the factorisation by {relative:.1e} of the "
            "norm: check that the operator is the same at every call, and Hermitian if declared so",
        )
        return True


def relation_error(factorization: ArnoldiFactorization) -> float:
    """Return the norm of ``(A V - V H) c`` for a random unit vector c. Collective: one product."""
    f = factorization
    m, wide = f.size, f.size + f.width
    c = np.random.default_rng(m).standard_normal(m)
    c /= np.linalg.norm(c)
    x = np.asfortranarray((f.basis[:, :m] @ c)[:, None])
    error = apply_columns(f.operator, x)
    error -= (f.basis[:, :wide] @ (f.hessenberg[:wide, :m] @ c))[:, None]
    if f.n_locked:
        # the factorisation is that of the operator projected on the complement
        locked = f.locked_columns
        weighted = error if f.inner is None else apply_columns(f.inner, error)
        error -= locked @ f.comm.allreduce(locked.T @ weighted)
    return float(np.sqrt(f.comm.allreduce(float(np.vdot(error, error)), op=MPI.SUM)))
