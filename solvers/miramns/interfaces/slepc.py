"""SLEPc's eigensolvers with the same result and the same true residuals."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from slepc4py import SLEPc

from miramns.agreement import forget_failures, raise_failure, same_on_all_ranks
from miramns.errors import MiramnsError
from miramns.factorization.orthogonalize import orthogonality
from miramns.norms import norm_along
from miramns.problem import require_real_scalars
from miramns.products import GuardedProducts, apply_to_pairs, shell_like, vector_like
from miramns.random_vectors import seeded_normal
from miramns.residuals import fix_signs, residual_norms
from miramns.result import ConvergedReason, EigenResult
from miramns.selection import Which, ties_at
from miramns.tolerances import converged_reason, residual_tolerances

#: Solvers that take another stopping test than their own.
_STOPPABLE = ("krylovschur", "arnoldi", "lanczos", "gd", "jd")

#: SLEPc tests estimates: the run counts as converged up to this multiple of the tolerance.
_SLACK = 5.0


def slepc(
    A: PETSc.Mat,
    k: int,
    *,
    eps_type: str = "krylovschur",
    which: Which = "LM",
    hermitian: bool | None = None,
    tol: float = 1e-8,
    max_it: int | None = None,
    ncv: int | None = None,
    seed: int = 0,
    start: NDArray[np.float64] | None = None,
    B: PETSc.Mat | None = None,
    deflation: NDArray[np.float64] | None = None,
    options_prefix: str = "",
) -> EigenResult:
    """Find k dominant eigenpairs with a solver of SLEPc.

    Collective on ``A.comm``. The start vector is the same as in :func:`miramns.solve` for the same
    seed. The options database (``-eps_...``, or with `options_prefix` before it) overrides the
    arguments.

    Parameters
    ----------
    A, k, which, hermitian, tol, max_it, ncv, seed, start, deflation
        As for :func:`miramns.solve` and :class:`miramns.Options`.
    eps_type : str
        ``"krylovschur"``, ``"lanczos"``, ``"arpack"``, ...
    B : PETSc.Mat, optional
        For ``A x = lambda B x``, positive if `hermitian`. ``n_matvec`` counts products with A
        alone. Residuals are those of this problem; vectors are B-orthonormal if `hermitian`.

    Returns
    -------
    EigenResult
        With k pairs if SLEPc found as many, fewer otherwise. ``history`` is empty and
        ``n_reductions`` is 0, because SLEPc does not provide them.

    Examples
    --------
    >>> import miramns
    >>> from petsc4py import PETSc
    >>> A = PETSc.Mat().createAIJ((50, 50), nnz=1, comm=PETSc.COMM_SELF)
    >>> for i in range(50):
    ...     A[i, i] = i + 1.0
    >>> A.assemble()
    >>> result = miramns.slepc(A, k=2, hermitian=True)
    >>> result.solver, result.eigenvalues.round(6)
    ('SLEPc krylovschur', array([50., 49.]))
    """
    began = time.perf_counter()
    comm: MPI.Comm = A.getComm().tompi4py()
    same_on_all_ranks(
        comm, k=k, eps_type=eps_type, which=which, hermitian=hermitian, tol=tol, max_it=max_it,
        ncv=ncv, seed=seed, has_start=start is not None, has_B=B is not None,
        has_deflation=deflation is not None,
    )  # fmt: skip
    forget_failures()
    require_real_scalars()
    n = A.getSize()[0]
    if not 1 <= k <= n:
        raise MiramnsError(f"need 1 <= k <= n, got k={k}, n={n}")
    if hermitian is None:
        hermitian = all(A.isHermitianKnown())
    counted = GuardedProducts(A, 0.0)
    shell = shell_like(A, counted)
    eps = SLEPc.EPS().create(comm=A.getComm())
    rows = A.getOwnershipRange()
    begin = seeded_normal(seed, *rows) if start is None else start
    columns = [begin] if deflation is None else [begin, *deflation.T]
    vectors = [vector_like(A, column) for column in columns]
    try:
        eps.setOperators(shell, B)
        eps.setProblemType(problem_type(hermitian, generalized=B is not None))
        eps.setType(eps_type)
        eps.setDimensions(k, ncv if ncv else None)
        eps.setTolerances(tol, max_it if max_it else None)
        eps.setWhichEigenpairs(which_eigenpairs(which))
        if eps_type in _STOPPABLE:
            eps.setStoppingTest(partial(_stop, comm, counted))
        eps.setInitialSpace(vectors[0])
        if vectors[1:]:
            eps.setDeflationSpace(vectors[1:])
        if options_prefix:
            eps.setOptionsPrefix(options_prefix)
        if B is not None and comm.size > 1 and "dense" in B.getType():
            # PETSc factorises no distributed dense matrix: every rank factorises the whole
            ksp = eps.getST().getKSP()
            ksp.setType("preonly")
            ksp.getPC().setType("redundant")
        eps.setFromOptions()
        try:
            eps.solve()
        except (PETSc.Error, SystemError):
            # perhaps for products that are zero after an exception
            raise_failure(comm)
            raise
        raise_failure(comm)
        norm = 0.0 if deflation is None or B is not None else norm_along(A, deflation)
        result = _collected(A, B, eps, k, which, hermitian, tol, norm)
        seconds = float(comm.allreduce(time.perf_counter() - began, op=MPI.MAX))
        return replace(result, n_matvec=counted.count, seconds=seconds)
    finally:
        for vector in vectors:
            vector.destroy()
        eps.destroy()
        shell.destroy()
        counted.destroy()


def _stop(
    comm: MPI.Comm, products: GuardedProducts, _eps: SLEPc.EPS, its: int, max_it: int, nconv: int,
    nev: int,
) -> int:  # fmt: skip
    """Return the reason to end: SLEPc's own, or an exception in a product on any rank."""
    reasons = SLEPc.EPS.ConvergedReason
    if comm.allreduce(products.failed, op=MPI.LOR):
        return int(reasons.CONVERGED_USER)
    if nconv >= nev:
        return int(reasons.CONVERGED_TOL)
    return int(reasons.DIVERGED_ITS if its >= max_it else reasons.CONVERGED_ITERATING)


def problem_type(hermitian: bool, *, generalized: bool) -> int:
    """Return the ``EPS.ProblemType``."""
    kinds = SLEPc.EPS.ProblemType
    standard, general = (kinds.HEP, kinds.GHEP) if hermitian else (kinds.NHEP, kinds.GNHEP)
    return int(general if generalized else standard)


def which_eigenpairs(which: Which) -> int:
    """Return the ``EPS.Which`` of a name."""
    names = SLEPc.EPS.Which
    table = {
        "LM": names.LARGEST_MAGNITUDE,
        "LR": names.LARGEST_REAL,
        "LA": names.LARGEST_REAL,
        "SR": names.SMALLEST_REAL,
        "SA": names.SMALLEST_REAL,
    }
    if which not in table:
        raise MiramnsError(f"which={which!r} is not one of {', '.join(table)}")
    return int(table[which])


def _collected(
    A: PETSc.Mat,
    B: PETSc.Mat | None,
    eps: SLEPc.EPS,
    k: int,
    which: Which,
    hermitian: bool,
    tol: float,
    norm: float,
) -> EigenResult:
    """Return the pairs that `eps` found, with their true residuals. Collective."""
    comm, rows = A.getComm().tompi4py(), A.getOwnershipRange()
    found = min(eps.getConverged(), k)
    if 0 < found < eps.getConverged() and eps.getEigenvalue(found - 1).imag > 0:
        found += 1
    dtype = np.float64 if hermitian else np.complex128
    values = np.empty(found, dtype=dtype)
    X = np.empty((rows[1] - rows[0], found), dtype=dtype, order="F")
    real, imaginary = A.createVecs()
    for i in range(found):
        value = eps.getEigenpair(i, real, imaginary)
        if hermitian:
            values[i], X[:, i] = value.real, real.getArray()
        else:
            values[i], X[:, i] = value, real.getArray() + 1j * imaginary.getArray()
    real.destroy()
    imaginary.destroy()
    further = [eps.getEigenvalue(found)] if found < eps.getConverged() else []
    AX = apply_to_pairs(A, values, X)
    BX = X if B is None else apply_to_pairs(B, values, X)
    residuals = residual_norms(comm, values, BX, AX)
    fix_signs(comm, rows[0], X)
    largest = float(np.max(np.abs(values), initial=norm))
    lengths = residual_norms(comm, np.zeros(found), BX, BX)
    requested = residual_tolerances(values, tol, largest, rounding=False) * lengths
    tolerances = requested
    if hermitian:
        tolerances = residual_tolerances(values, tol, largest) * lengths
    if eps.getConverged() < k:
        reason = ConvergedReason.DIVERGED_ITS
    else:
        reason = converged_reason(residuals, _SLACK * tolerances, _SLACK * requested)
    gram_of = X if hermitian else np.empty((X.shape[0], 0))
    return EigenResult(
        eigenvalues=values,
        eigenvectors=X,
        ownership_range=rows,
        residual_norms=residuals,
        residual_tolerances=tolerances,
        error_bounds=residuals.copy(),
        operator_norm=largest,
        orthogonality=orthogonality(comm, gram_of, B if hermitian else None),
        reason=reason,
        n_certificate_matvec=X.shape[1],
        n_restarts=eps.getIterationNumber(),
        solver=f"SLEPc {eps.getType()}",
        tie_at_cut=ties_at(np.append(values, further), which, found),
    )
