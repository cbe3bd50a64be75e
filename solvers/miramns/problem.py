"""The eigenvalue problem: arguments of :func:`miramns.solve`, checked before any allocation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.errors import MiramnsError
from miramns.factorization.block import chosen_width
from miramns.iteration.subspace_size import first_cycle, nested_sizes
from miramns.norms import norm_along
from miramns.products import is_shell
from miramns.random_vectors import seeded_normal
from miramns.selection import Order, Which
from miramns.tolerances import Criterion, residual_tolerances

if TYPE_CHECKING:
    from miramns.iteration.saved_iteration import SolverCheckpoint

Variant = Literal["default", "published", "block"]
Orthogonalization = Literal["auto", "full", "partial", "dcgs2"]
MultiplicityCheck = Literal["auto", "always", "never"]

#: Local rows from which partial reorthogonalisation takes less time than full orthogonalisation.
_LONG_COLUMNS = 5000

#: Share of the free memory that the basis may take by default.
_MEMORY_SHARE = 0.25

#: Largest number of columns with sizes chosen during the iteration.
_MOST_COLUMNS = 1200

#: Ends of the spectrum, for which the rate of convergence can be predicted.
_OUTER = ("LM", "LR", "SR", "LA", "SA", "BE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of :func:`miramns.solve` that most calls leave at their defaults.

    Parameters
    ----------
    criterion : {"relative", "absolute", "norm"}
        Whether `tol` is relative to the modulus of the eigenvalue (to ||A||_F for the published
        variant), to 1, or to ||A||. With B: ``|lambda| ||B x||``, ``||x||``, or
        ``(||A|| + |lambda| ||B||) ||x||``.
    nested_sizes : sequence of int, optional
        Increasing subspace sizes instead of those of the variant.
    orthogonalization : {"auto", "full", "partial", "dcgs2"}
        "partial" reads the basis rarely; "auto" chooses it for Hermitian operators on long vectors,
        and "full" otherwise. "dcgs2" is full with one reduction per column, for many ranks; it
        makes one product more (default variant).
    block_size : int, optional
        Columns of a block of the block variant. Default: chosen from two measured products.
    multiplicity_check : {"auto", "always", "never"}
        Search for wanted eigenvalues missing from the answer, in the complement of the answer
        (Hermitian operators, default and block variants). A Krylov space holds one vector of each
        eigenspace, so copies of a multiple eigenvalue may be missing. "auto" spends at most a
        quarter of the products of the iteration, "always" as many as needed.
    deflation : ndarray of shape (n_local, d), optional
        This rank's rows of vectors to which the eigenvectors are orthogonal.
    inner : PETSc.Mat, optional
        Symmetric positive matrix M of the inner product x'My, in which a Hermitian operator is
        self-adjoint and its eigenvectors are orthonormal.
    exact : PETSc.Mat, optional
        The operator that `A` approximates at less cost, for example in single precision. `A` makes
        the subspace; values, residuals and convergence come from products with `exact`. Symmetric
        operators, without multiplicity check. If the answer does not converge, the iteration stops,
        because further products with `A` do not help: continue with `exact` from the vectors found.
    memory_bytes : int, optional
        Memory of the basis on one rank. Default: a quarter of this rank's share of the free memory.
    repeatable : bool
        Choose sizes from nominal instead of measured seconds, as with checkpoints, so that the same
        solve gives the same bits again. `memory_bytes` then has to be given too where memory is
        scarce.

    Examples
    --------
    >>> from miramns import Options
    >>> Options(criterion="norm", multiplicity_check="never").orthogonalization
    'auto'
    """

    criterion: Criterion = "relative"
    nested_sizes: Sequence[int] | None = None
    orthogonalization: Orthogonalization = "auto"
    block_size: int | None = None
    multiplicity_check: MultiplicityCheck = "auto"
    deflation: NDArray[np.float64] | None = None
    inner: PETSc.Mat | None = None
    exact: PETSc.Mat | None = None
    memory_bytes: int | None = None
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A checked eigenvalue problem, with every default resolved.

    Attributes
    ----------
    operator : PETSc.Mat
    k, n : int
        Number of wanted pairs, and global dimension.
    which, hermitian, tol, max_it, variant, seed, options
        As for :func:`miramns.solve`, with the method of orthogonalisation resolved.
    locked : ndarray of shape (n_local, d) or None
        The vectors of ``options.deflation``, checked.
    sizes : tuple of int
        Nested sizes; empty if they are chosen during the iteration.
    capacity : int
        Largest subspace.
    first_cycle : int
        Largest subspace of the first cycle; 0 for `capacity`.
    width : int
        Columns of a block; 1 for the single-vector variants.
    longest : int
        Largest number of rows on a rank.
    scale : float
        ||A||_F for the published variant if the operator provides it, else 0.
    norm : float
        A lower bound of ||A|| known before.
    checkpoint : SolverCheckpoint or None
        Where the state of the iteration is saved.
    """

    operator: PETSc.Mat
    k: int
    n: int
    which: Order
    hermitian: bool
    tol: float
    max_it: int
    variant: Variant
    seed: int
    options: Options
    locked: NDArray[np.float64] | None
    sizes: tuple[int, ...]
    capacity: int
    first_cycle: int
    width: int
    longest: int
    scale: float
    norm: float
    checkpoint: SolverCheckpoint | None = None

    def tolerances(
        self, values: NDArray[Any], norm: float, scale: float = 0.0, *, rounding: bool = True
    ) -> NDArray[np.float64]:
        """Return the tolerances of pairs: :func:`~miramns.tolerances.residual_tolerances`."""
        return residual_tolerances(
            values, self.tol, norm, self.options.criterion, scale=scale, rounding=rounding
        )


def check_problem(
    A: PETSc.Mat,
    k: int,
    *,
    which: Order,
    hermitian: bool | None,
    tol: float,
    max_it: int,
    ncv: int | None,
    variant: Variant,
    seed: int,
    options: Options,
    repeats: bool = False,
) -> Problem:
    """Check the arguments of :func:`miramns.solve` and resolve the defaults.

    Collective on ``A.comm``.

    Parameters
    ----------
    repeats : bool
        Choose nothing from measured seconds.

    Raises
    ------
    MiramnsError
        On all ranks, if the arguments do not fit together.
    """
    require_real_scalars()
    n, n_columns = A.getSize()
    if n != n_columns:
        raise MiramnsError(f"the operator must be square, got {n} x {n_columns}")
    locked = _local_columns(A, options.deflation)
    dimension = n if locked is None else n - locked.shape[1]
    if not 1 <= k <= dimension:
        among = f"n={n}" if locked is None else f"n={n} less {n - dimension} deflated"
        raise MiramnsError(f"need 1 <= k <= n, got k={k}, {among}")
    if hermitian is None:
        hermitian = all(A.isHermitianKnown())
    _check_choices(which, hermitian, variant, options)
    if not (0 < tol < 1 and max_it >= 0):
        raise MiramnsError(f"need 0 < tol < 1 and max_it >= 0, got tol={tol}, max_it={max_it}")
    if seed < 0:
        raise MiramnsError(f"need seed >= 0, got {seed}")
    _check_options(A, hermitian, variant, options)
    comm = A.getComm().tompi4py()
    longest = comm.allreduce(A.getLocalSize()[0], op=MPI.MAX)
    options = replace(
        options, orthogonalization=_orthogonalization(hermitian, variant, options, longest)
    )
    columns = _affordable_columns(comm, longest, options)
    partial = options.orthogonalization == "partial"
    if partial and not options.nested_sizes and ncv is None and which in _OUTER:
        sizes: tuple[int, ...] = ()
        wanted = min(max(_MOST_COLUMNS, 8 * k), dimension)
        capacity = max(min(wanted, columns - 1), min(k + 2, dimension))
    else:
        sizes = nested_sizes(
            k, dimension, ncv=ncv, given=options.nested_sizes, published=variant == "published",
            basis_columns=columns, hermitian=hermitian,
        )  # fmt: skip
        capacity = sizes[-1]
    width = 1
    if variant == "block":
        width = min(options.block_size or chosen_width(A, k, dimension, repeats=repeats), dimension)
        sizes = tuple(sorted({min(-(-size // width) * width, dimension) for size in sizes}))
        capacity = sizes[-1]
    is_chosen = ncv is not None or options.nested_sizes is not None
    has_scale = variant == "published" and not is_shell(A)
    return Problem(
        A, k, n, which, hermitian, tol, max_it, variant, seed, options, locked, sizes, capacity,
        0 if is_chosen or variant != "default" else first_cycle(k), width, longest,
        scale=float(A.norm(PETSc.NormType.FROBENIUS)) if has_scale else 0.0,
        norm=0.0 if locked is None else norm_along(A, locked),
    )  # fmt: skip


def require_real_scalars() -> None:
    """Raise an error for a PETSc build with complex scalars."""
    if np.dtype(PETSc.ScalarType).kind == "c":
        raise MiramnsError("this PETSc build has complex scalars; MIRAMns needs a real one")


def _check_choices(which: Order, hermitian: bool, variant: str, options: Options) -> None:
    if not callable(which):
        names = get_args(Which)
        if which not in names:
            raise MiramnsError(f"which={which!r} is not one of {', '.join(names)}")
        if which in ("LA", "SA", "BE") and not hermitian:
            raise MiramnsError(
                f"which={which!r} is for Hermitian operators: use LR, SR, LM, ... instead"
            )
        if which in ("LI", "SI") and hermitian:
            raise MiramnsError(f"which={which!r}: eigenvalues of Hermitian operators are real")
    for name, value, choices in (
        ("variant", variant, get_args(Variant)),
        ("criterion", options.criterion, get_args(Criterion)),
        ("orthogonalization", options.orthogonalization, get_args(Orthogonalization)),
        ("multiplicity_check", options.multiplicity_check, get_args(MultiplicityCheck)),
    ):
        if value not in choices:
            raise MiramnsError(f"{name}={value!r} is not one of {', '.join(choices)}")


def _check_options(A: PETSc.Mat, hermitian: bool, variant: str, options: Options) -> None:
    block_size, inner, exact = options.block_size, options.inner, options.exact
    if block_size is not None and (variant != "block" or block_size < 1):
        raise MiramnsError(f"block_size={block_size} needs variant='block' and at least 1")
    if variant == "block" and inner is not None:
        raise MiramnsError("variant='block' supports the usual inner product only")
    if exact is not None:
        if not hermitian or inner is not None or variant == "published":
            raise MiramnsError(
                "an exact operator beside its approximation is for Hermitian operators, the "
                "default and block variants, and the usual inner product"
            )
        if exact.getSize() != A.getSize() or exact.getOwnershipRange() != A.getOwnershipRange():
            raise MiramnsError("the exact operator must have the sizes and the layout of A")
    if options.orthogonalization == "dcgs2" and (variant != "default" or inner is not None):
        raise MiramnsError(
            "orthogonalization='dcgs2' is for the default variant and the usual inner product"
        )


def _orthogonalization(
    hermitian: bool, variant: str, options: Options, longest: int
) -> Orthogonalization:
    """Resolve "auto"."""
    wanted = options.orthogonalization
    may_be_partial = hermitian and options.inner is None and variant == "default"
    if wanted == "partial" and not may_be_partial:
        raise MiramnsError(
            "partial orthogonalisation is for Hermitian operators, the default variant and the "
            "usual inner product"
        )
    if wanted == "auto":
        return "partial" if may_be_partial and longest >= _LONG_COLUMNS else "full"
    return wanted


def _affordable_columns(comm: MPI.Comm, longest: int, options: Options) -> int:
    """Return the number of columns of the basis that memory allows. Collective."""
    memory = options.memory_bytes
    least = comm.allreduce(_free_memory(comm) if memory is None else memory, op=MPI.MIN)
    columns = int(least // (8 * max(longest, 1)))
    # DCGS2 is one product ahead of its columns
    return columns - (options.orthogonalization == "dcgs2")


def _free_memory(comm: MPI.Comm) -> float:
    """Return the bytes for a rank's basis: its share of the free memory of its compute node."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        # unknown on this system: the largest number of columns is the only limit
        free = 2**62
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    share = _MEMORY_SHARE * free / node.size
    node.Free()
    return float(comm.allreduce(share, op=MPI.MIN))


def _local_columns(
    A: PETSc.Mat, deflation: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    if deflation is None:
        return None
    rows = A.getLocalSize()[0]
    columns = np.asarray(deflation, dtype=np.float64)
    comm = A.getComm().tompi4py()
    fits = columns.ndim == 2 and len(columns) == rows and bool(np.isfinite(columns).all())
    widths = comm.allgather(columns.shape[1] if fits else -1)
    if min(widths) < 0 or len(set(widths)) > 1:
        raise MiramnsError(
            "deflation must hold this rank's finite rows: shape (n_local, d) with the same d on "
            "every rank"
        )
    return columns if widths[0] else None


def start_vector(problem: Problem, start: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return this rank's part of the start vector, or block of start vectors. Collective."""
    A = problem.operator
    first, last = A.getOwnershipRange()
    if start is not None:
        comm = A.getComm().tompi4py()
        shape = np.shape(start)
        fits = shape[:1] == (last - first,) and bool(np.isfinite(start).all())
        widths = comm.allgather((0 if len(shape) == 1 else shape[1]) if fits else -1)
        if len(shape) > 2 or min(widths) < 0 or len(set(widths)) > 1:
            raise MiramnsError(
                "start must hold this rank's finite entries: shape (n_local,) on every rank"
            )
        if not widths[0] <= (problem.width if problem.variant == "block" else 0):
            raise MiramnsError(
                f"start holds {widths[0]} vectors: block_size is {problem.width} here"
                if problem.variant == "block"
                else "start must hold one vector, of shape (n_local,), for this variant"
            )
        return np.asarray(start, dtype=np.float64)
    if problem.variant == "published":
        return np.ones(last - first)
    return seeded_normal(problem.seed, first, last)
