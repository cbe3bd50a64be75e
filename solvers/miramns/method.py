"""MIRAMns: multiple implicitly restarted Arnoldi method with nested subspaces.

Problem: k dominant eigenpairs of a real operator A of size n, known by its products.

Method. One Arnoldi factorisation carries all nested subspaces m_1 < ... < m_l.

* ``variant="default"``: each size is a checkpoint. The projected problem is solved there, and the
  run ends as soon as the k wanted pairs pass, within the sweep. It restarts thick, keeping more
  than the k wanted directions, and rarely. For Hermitian operators on long vectors the columns are
  made by the three-term recurrence with partial reorthogonalisation, and the sizes, the restarts
  and what they keep are chosen while running, from measured times and the Ritz values.
* ``variant="block"``: the same with blocks of vectors, which need fewer passes over the operator
  and find multiple eigenvalues; for operators whose product with a block is cheap.
* ``variant="published"``: the factorisation is grown to m_l, every size is examined, and the one
  with the smallest measure is restarted from by implicit QR, its unwanted Ritz values as exact
  shifts, keeping k columns.

Both end with true residuals, computed from the returned vectors.

References: Shahzadeh Fazeli, Emad, Liu, "A key to choose subspace size in implicitly restarted
Arnoldi method", Numerical Algorithms (2015); Petit, Li, Emad, Dongarra, ScalAH (2025) for the
published code.

Deviations of ``published`` from the released code, each of which mends a defect there: two-pass
orthogonalisation instead of one; real arithmetic for real operators, with the real part of a
complex shift where it is meant; the pairs returned belong to the size that was chosen, not to the
last one examined; sizes that leave no shift are skipped; a conjugate pair is kept whole; the new
residual vector is orthogonalised again after a restart; where the chosen size passes and the
largest one proves that it lacks a wanted eigenvalue (Hermitian operators), the largest is chosen
instead; where the space of the start vector is invariant (equal entries are an eigenvector of every
graph Laplacian), the factorisation goes on with a random vector orthogonal to it, sizes that do not
reach far enough beyond it are passed over, and restarts are thick from then on, keeping the same
number of columns: shifted QR steps do not pass the coupling of zero, and the released code comes
back to the same space for ever. Where the operator cannot tell its Frobenius norm, that of the
largest projected matrix stands in (it is never larger).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.certificate import fix_signs
from miramns.convergence import EPSILON
from miramns.multiplicity import Completeness, complete
from miramns.problem import (
    Criterion,
    Orthogonalization,
    Problem,
    Variant,
    check_problem,
    start_vector,
)
from miramns.projected import Order
from miramns.result import Check, EigenResult
from miramns.run import Run, find

__all__ = ["solve"]


def solve(
    A: PETSc.Mat,
    k: int,
    *,
    which: Order = "LM",
    hermitian: bool | None = None,
    tol: float = 1e-8,
    criterion: Criterion = "relative",
    max_it: int = 500,
    ncv: int | None = None,
    nested_sizes: Sequence[int] | None = None,
    variant: Variant = "default",
    orthogonalization: Orthogonalization = "auto",
    block_size: int | None = None,
    multiplicity_check: Literal["auto", "always", "never"] = "auto",
    seed: int = 0,
    start: NDArray[np.float64] | None = None,
    inner: PETSc.Mat | None = None,
    deflation: NDArray[np.float64] | None = None,
    exact: PETSc.Mat | None = None,
    memory_bytes: int | None = None,
    on_check: Callable[[Check], None] | None = None,
) -> EigenResult:
    """Find k dominant eigenpairs of a real operator.

    Collective on ``A.comm``.

    Parameters
    ----------
    A : PETSc.Mat
        Square, assembled or shell, real. Only ``A.mult`` is used (and, for the published variant,
        ``A.norm`` where it exists).
    k : int
        Number of eigenpairs, 1 <= k <= n.
    which : {"LM", "SM", "LR", "SR", "LI", "SI", "LA", "SA", "BE"} or callable
        Largest or smallest modulus, real part or imaginary part; LA and SA are LR and SR of
        Hermitian operators, BE takes from both ends. A callable maps an array of values to keys,
        the wanted values having the smallest. Values whose moduli (real parts, ..., keys) differ by
        rounding alone tie. They come by decreasing real part, then by increasing modulus of the
        imaginary part, on every machine alike. Where a tie crosses the k-th place, the first in
        this order are returned, and ``EigenResult.tie_at_cut`` is True; a conjugate pair is never
        cut.
    hermitian : bool, optional
        Default: what `A` says of itself (``isHermitianKnown``), False where it says nothing.
    tol : float
        Largest residual norm, relative to what `criterion` says (to ||A||_F for the published
        variant). Rounding level is accepted where that is smaller still.
    criterion : {"relative", "absolute", "norm"}
        Relative to the modulus of the eigenvalue, to nothing, or to the norm of the operator.
    max_it : int
        Largest number of restarts.
    ncv : int, optional
        Largest subspace m_l. Default: chosen; 200 for the published variant.
    nested_sizes : sequence of int, optional
        Increasing subspace sizes instead of those of the variant.
    orthogonalization : {"auto", "full", "partial", "dcgs2"}
        Partial reorthogonalisation reads the basis rarely; "auto" takes it for Hermitian operators
        on long vectors, and full orthogonalisation otherwise. "dcgs2" is full with one reduction a
        column, for many ranks; it is one product ahead (default variant).
    block_size : int, optional
        Columns of a block of ``variant="block"``. Default: chosen from two measured products.
    multiplicity_check : {"auto", "always", "never"}
        Search for wanted eigenvalues that the answer lacks, in the complement of what was found
        (Hermitian operators, default variant). A Krylov space holds one vector of each eigenspace,
        so copies of a multiple eigenvalue may be missing. "auto" spends up to a quarter of the
        products of the run on it, "always" as many as it takes.
    seed : int
        Start vector of the default variant: normal numbers that depend on (seed, index) alone.
        The published variant starts from equal entries.
    start : ndarray of shape (n_local,) or (n_local, b), optional
        This rank's part of another start vector; of up to `block_size` vectors for
        ``variant="block"``.
    inner : PETSc.Mat, optional
        Symmetric positive B: A is then taken as self-adjoint (where `hermitian`) and vectors are
        orthonormal in the inner product x'By, as for the operator B^-1 A of a generalised problem.
    deflation : ndarray of shape (n_local, d), optional
        This rank's rows of vectors to stay orthogonal to.
    exact : PETSc.Mat, optional
        The operator that is meant, where `A` is a cheaper approximation of it (products in single
        precision): the space is made by `A`, while values, residuals and the verdict come from
        products with `exact`. Symmetric operators, without multiplicity check. A run whose answer
        does not pass there ends at once, as further products with `A` would not help: go on with
        `exact` from its vectors.
    memory_bytes : int, optional
        Memory that the basis may take on one rank. Default: a quarter of this rank's share of what
        is free.
    on_check : callable, optional
        Called on every rank with each :class:`~miramns.result.Check`.

    Returns
    -------
    EigenResult
        Also when pairs are missing: look at ``converged`` or ``reason``.

    Raises
    ------
    MiramnsError
        When the arguments do not fit together.
    OperatorError
        When a product is not finite.
    """
    began = time.perf_counter()
    problem = check_problem(
        A,
        k,
        which=which,
        hermitian=hermitian,
        tol=tol,
        criterion=criterion,
        max_it=max_it,
        ncv=ncv,
        nested_sizes=nested_sizes,
        variant=variant,
        orthogonalization=orthogonalization,
        block_size=block_size,
        seed=seed,
        memory_bytes=memory_bytes,
        inner=inner,
        deflation=deflation,
        exact=exact,
    )
    run = find(problem, start_vector(problem, start), on_check)
    completeness = complete(problem, run, multiplicity_check)
    return _result(problem, run, completeness, time.perf_counter() - began)


def _result(problem: Problem, run: Run, completeness: Completeness, seconds: float) -> EigenResult:
    """The answer with its certificate. Collective."""
    comm = run.comm
    rows = problem.operator.getOwnershipRange()
    assert run.reason is not None  # a run ends with a reason
    fix_signs(comm, rows[0], run.vectors)
    bounds = run.bounds(run.values)
    return EigenResult(
        eigenvalues=run.values,
        eigenvectors=run.vectors,
        ownership_range=rows,
        residual_norms=run.residuals,
        bounds=bounds,
        error_bounds=np.maximum(run.residuals, EPSILON * run.norm),
        orthogonality=run.orthogonality,
        n_converged=int(np.sum(run.residuals <= bounds)),
        reason=run.reason,
        n_matvec=run.n_matvec,
        n_certificate_matvec=run.n_certificate + completeness.n_matvec,
        n_reductions=run.n_reductions,
        n_restarts=run.n_restarts,
        history=tuple(run.history),
        seconds=float(comm.allreduce(seconds, op=MPI.MAX)),
        solver=f"MIRAMns {problem.variant} ({run.sizes_text()})",
        tie_at_cut=run.tie_at_cut,
        multiplicity_checked=completeness.checked,
        n_found_missing=completeness.n_found,
        decisions=tuple(run.decisions),
        orthogonality_level=run.orthogonality_level,
        n_mended=run.n_mended,
    )
