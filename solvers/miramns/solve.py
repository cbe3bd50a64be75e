"""MIRAMns: multiple implicitly restarted Arnoldi method with nested subspaces.

Problem: k dominant eigenpairs of a real operator A of dimension n, given by its products; or of
``A x = lambda B x``.

Method. One Arnoldi factorisation contains all nested subspaces m_1 < ... < m_l.

* ``variant="default"``: the sizes are checkpoints within the cycle between restarts, and restarts
  are thick and rare (:mod:`miramns.iteration.default`). For Hermitian operators on long vectors the
  factorisation uses the three-term recurrence with partial reorthogonalisation, and the sizes are
  chosen during the iteration (:mod:`miramns.iteration.subspace_size`).
* ``variant="block"``: the same with blocks of vectors, which need fewer passes over the operator
  and find multiple eigenvalues; for operators whose product with a block is cheap.
* ``variant="published"``: the method as its authors published it, with its deviations
  (:mod:`miramns.iteration.published`).

Small assembled matrices are solved by LAPACK (:mod:`miramns.direct`) unless an argument of the
iteration is given: `ncv`, `start`, `monitor`, sizes or a kind of orthogonalisation.

All variants end with true residuals, from products with the returned vectors.

References: Shahzadeh Fazeli, Emad, Liu, "A key to choose subspace size in implicitly restarted
Arnoldi method", Numerical Algorithms (2015); Petit, Li, Emad, Dongarra, ScalAH (2025).
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.agreement import agreed_monitor, forget_failures, same_on_all_ranks
from miramns.checkpointing import CheckpointStore, opened_store
from miramns.direct import direct_result, suits_lapack
from miramns.iteration.default import default_iteration
from miramns.iteration.published import published_iteration
from miramns.iteration.saved_iteration import solve_identity, with_checkpoint
from miramns.multiplicity import complete
from miramns.problem import Options, Variant, check_problem, start_vector
from miramns.residuals import fix_signs
from miramns.result import EigenResult, Monitor
from miramns.selection import Order

#: The options by default.
_DEFAULTS = Options()

#: Options that must be the same on all ranks, and those that all ranks or none must give.
_COMPARED = (
    "criterion", "nested_sizes", "orthogonalization", "block_size", "multiplicity_check",
    "repeatable",
)  # fmt: skip
_PRESENT = ("deflation", "inner", "exact", "memory_bytes")


def solve(
    A: PETSc.Mat,
    k: int,
    *,
    B: PETSc.Mat | None = None,
    which: Order = "LM",
    hermitian: bool | None = None,
    tol: float = 1e-8,
    max_it: int = 500,
    ncv: int | None = None,
    variant: Variant = "default",
    seed: int = 0,
    start: NDArray[np.float64] | None = None,
    monitor: Monitor | None = None,
    options: Options = _DEFAULTS,
    checkpoint: CheckpointStore | Path | str | None = None,
    checkpoint_every: float | None = None,
) -> EigenResult:
    """Find k dominant eigenpairs of a real operator, or of ``A x = lambda B x``.

    Collective on ``A.comm``.

    Parameters
    ----------
    A : PETSc.Mat
        Square, assembled or shell, real. Only ``A.mult`` is used (and, for the published variant,
        ``A.norm`` of assembled matrices).
    k : int
        Number of eigenpairs, 1 <= k <= n.
    B : PETSc.Mat, optional
        Matrix of a generalised problem, distributed as `A`; symmetric positive if `hermitian`. It
        is factorised, or solved with iteratively if it is a shell.
    which : {"LM", "SM", "LR", "SR", "LI", "SI", "LA", "SA", "BE"} or callable
        Largest or smallest modulus, real part or modulus of the imaginary part; LA and SA are LR
        and SR of Hermitian operators, BE takes from both ends in turn. A callable maps an array of
        values to keys; the wanted values have the smallest keys.

        Values tie if their moduli (real parts, ..., keys) differ by rounding alone. Ties are
        ordered by decreasing real part, then by increasing modulus of the imaginary part, the same
        on every machine and number of ranks and threads. If a tie crosses the k-th place, the first
        values in this order are returned, and ``EigenResult.tie_at_cut`` is True. A complex
        conjugate pair is never separated: k + 1 pairs are returned instead.
    hermitian : bool, optional
        Default: the property of `A` (and of `B`), ``isHermitianKnown``; False if it is not known.
    tol : float
        Largest residual norm, relative to the modulus of the eigenvalue (to ||A||_F for the
        published variant), or as set by ``options.criterion``. Rounding level always passes.
    max_it : int
        Largest number of restarts.
    ncv : int, optional
        Largest subspace m_l. Default: chosen; 200 for the published variant.
    variant : {"default", "block", "published"}
    seed : int
        Seed of the start vector of the default and block variants: normal numbers that depend on
        (seed, global index) alone. The published variant starts from equal entries.
    start : ndarray of shape (n_local,) or (n_local, b), optional
        This rank's part of another start vector, or of up to ``options.block_size`` vectors for the
        block variant.
    monitor : callable, optional
        Called on every rank that gives it with each :class:`~miramns.IterationRecord`.
    options : Options
        Further settings.
    checkpoint : path or CheckpointStore, optional
        Folder, shared by all ranks, where the state of the iteration is saved from time to time.
        The same call continues from the newest state in it: on the same number of ranks with the
        same bits, on another one to the tolerance. Subspace sizes then follow from nominal instead
        of measured seconds, so that they repeat. The files remain after the solve; another problem
        needs another folder.
    checkpoint_every : float, optional
        Seconds between saved states in a folder; 0 for one at each opportunity. Default: chosen
        from the measured time of the writing, which takes at most 2 % of the run.

    Returns
    -------
    EigenResult
        Also if pairs did not converge: see ``converged`` and ``reason``.

    Raises
    ------
    MiramnsError
        If the arguments do not fit together, or differ between ranks.
    CheckpointMismatchError
        If the saved state is of other arguments or of another operator.
    CheckpointError
        If a state cannot be saved. Earlier ones are unchanged.
    OperatorError
        If a product is not finite. If a product or a monitor raises an exception, its rank raises
        it again, and the other ranks raise an error that names the rank.

    Examples
    --------
    The three largest eigenvalues of a one-dimensional Laplacian:

    >>> import miramns
    >>> from petsc4py import PETSc
    >>> n = 100
    >>> A = PETSc.Mat().createAIJ((n, n), nnz=3, comm=PETSc.COMM_SELF)
    >>> for i in range(n):
    ...     A[i, i] = 2.0
    ...     if i > 0:
    ...         A[i, i - 1] = A[i - 1, i] = -1.0
    >>> A.assemble()
    >>> result = miramns.solve(A, k=3, hermitian=True)
    >>> result.eigenvalues.round(6)
    array([3.999033, 3.996131, 3.991299])
    >>> result.converged, result.unconverged
    (True, ())

    Fewer common settings are in :class:`Options`:

    >>> options = miramns.Options(criterion="norm", multiplicity_check="never")
    >>> miramns.solve(A, k=3, which="SA", hermitian=True, tol=1e-6, options=options).n_converged
    3
    """
    began = time.perf_counter()
    comm: MPI.Comm = A.getComm().tompi4py()
    _check_agreement(
        comm, options, k=k, has_B=B is not None, which=which, hermitian=hermitian, tol=tol,
        max_it=max_it, ncv=ncv, variant=variant, seed=seed, has_start=start is not None,
        has_checkpoint=checkpoint is not None, checkpoint_every=checkpoint_every,
    )  # fmt: skip
    monitor = agreed_monitor(comm, monitor)
    settings: dict[str, Any] = {
        "which": which, "hermitian": hermitian, "tol": tol, "max_it": max_it, "ncv": ncv,
        "variant": variant, "seed": seed,
    }  # fmt: skip
    with opened_store(comm, checkpoint, checkpoint_every) as store:
        if B is not None:
            from miramns.transform.pencil import solve_generalized

            return solve_generalized(
                A, B, k, start=start, monitor=monitor, options=options, checkpoint=store, **settings
            )
        repeats = store is not None or options.repeatable
        problem = check_problem(A, k, options=options, repeats=repeats, **settings)
        is_open = ncv is None and start is None and monitor is None and options.nested_sizes is None
        if is_open and options.orthogonalization == "auto" and suits_lapack(problem):
            result = direct_result(problem)
        else:
            settings["hermitian"] = problem.hermitian
            identity = solve_identity(A, options, k=k, **settings)
            problem = with_checkpoint(problem, store, identity)
            iterate = published_iteration if variant == "published" else default_iteration
            result = complete(problem, iterate(problem, start_vector(problem, start), monitor))
    fix_signs(comm, result.ownership_range[0], result.eigenvectors)
    return replace(result, seconds=float(comm.allreduce(time.perf_counter() - began, op=MPI.MAX)))


def _check_agreement(comm: MPI.Comm, options: Options, **arguments: Any) -> None:
    """Raise an error if arguments differ between ranks; forget exceptions of earlier solves."""
    forget_failures()
    given = {name: getattr(options, name) for name in _COMPARED}
    given |= {f"has_{name}": getattr(options, name) is not None for name in _PRESENT}
    same_on_all_ranks(comm, **arguments, **given)
