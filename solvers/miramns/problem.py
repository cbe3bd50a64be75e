"""The eigenvalue problem as it was asked for, checked before anything is allocated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns import nested
from miramns.block import chosen_width
from miramns.convergence import MiramnsError
from miramns.norms import norm_along
from miramns.projected import Order, known_orders
from miramns.start import seeded_normal

__all__ = [
    "Criterion",
    "Orthogonalization",
    "Problem",
    "Variant",
    "check_problem",
    "need_real_scalars",
    "start_vector",
]

Variant = Literal["default", "published", "block"]

#: What a residual is relative to: the eigenvalue, nothing, or the norm of the operator.
Criterion = Literal["relative", "absolute", "norm"]

#: How the basis is kept orthonormal; "auto" is one of the next two.
Orthogonalization = Literal["auto", "full", "partial", "dcgs2"]

#: Local rows from which orthogonalisation costs more than the calls that save it.
_LONG_COLUMNS = 5000

#: Share of the memory that is free now, which the basis may take where nobody says more.
_MEMORY_SHARE = 0.25

#: Most columns that a run on long columns may grow to.
_MOST_COLUMNS = 1200


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be found, and within which limits.

    Attributes
    ----------
    sizes : tuple of int
        Nested sizes; empty where they are chosen while running.
    capacity : int
        Largest subspace.
    scale : float
        ||A||_F for the published variant where the operator tells it, else 0.
    width : int
        Columns of a block; 1 for the single-vector variants.
    partial : bool
        Whether the basis is orthogonalised partially (Hermitian operators, long columns).
    delayed : bool
        Whether it is orthogonalised with one reduction a column.
    norm : float
        What is known of ||A|| before.
    exact : PETSc.Mat or None
        What `operator` approximates; None where it is what is meant.
    """

    operator: PETSc.Mat
    k: int
    n: int
    which: Order
    hermitian: bool
    tol: float
    criterion: Criterion
    max_it: int
    sizes: tuple[int, ...]
    capacity: int
    variant: Variant
    scale: float
    partial: bool
    delayed: bool
    longest: int
    width: int
    seed: int
    inner: PETSc.Mat | None
    locked: NDArray[np.float64] | None
    norm: float = 0.0
    exact: PETSc.Mat | None = None


def check_problem(
    A: PETSc.Mat,
    k: int,
    *,
    which: Order,
    hermitian: bool | None,
    tol: float,
    criterion: Criterion,
    max_it: int,
    ncv: int | None,
    nested_sizes: Sequence[int] | None,
    variant: Variant,
    orthogonalization: Orthogonalization,
    block_size: int | None,
    seed: int,
    memory_bytes: int | None,
    inner: PETSc.Mat | None,
    deflation: NDArray[np.float64] | None,
    exact: PETSc.Mat | None = None,
) -> Problem:
    """Check the arguments of :func:`miramns.solve` and settle what they leave open.

    Collective on ``A.comm``.

    Raises
    ------
    MiramnsError
        On all ranks, naming what does not fit.
    """
    need_real_scalars()
    n, columns = A.getSize()
    if n != columns:
        raise MiramnsError(f"the operator must be square, got {n} x {columns}")
    locked = _local_columns(A, deflation)
    dimension = n if locked is None else n - locked.shape[1]
    if not 1 <= k <= dimension:
        among = f"n={n}" if locked is None else f"n={n} less {n - dimension} deflated"
        raise MiramnsError(f"need 1 <= k <= n, got k={k}, {among}")
    if hermitian is None:
        known, value = A.isHermitianKnown()
        hermitian = bool(known and value)
    _check_choices(which, hermitian, variant, criterion, orthogonalization)
    if not (0 < tol < 1 and max_it >= 0):
        raise MiramnsError(f"need 0 < tol < 1 and max_it >= 0, got tol={tol}, max_it={max_it}")
    if seed < 0:
        raise MiramnsError(f"need seed >= 0, got {seed}")
    if block_size is not None and (variant != "block" or block_size < 1):
        raise MiramnsError(f"block_size={block_size} needs variant='block' and at least 1")
    if variant == "block" and inner is not None:
        raise MiramnsError("variant='block' knows the usual inner product only")
    if exact is not None:
        _check_exact(A, exact, usable=hermitian and inner is None and variant != "published")
    delayed = orthogonalization == "dcgs2"
    if delayed and (variant != "default" or inner is not None):
        raise MiramnsError(
            "orthogonalization='dcgs2' is for the default variant and the usual inner product"
        )
    longest = A.getComm().tompi4py().allreduce(A.getLocalSize()[0], op=MPI.MAX)
    may_be_partial = hermitian and inner is None and variant == "default"
    if orthogonalization == "partial" and not may_be_partial:
        raise MiramnsError(
            "partial orthogonalisation is for Hermitian operators, the default variant and the "
            "usual inner product"
        )
    partial = may_be_partial and (
        orthogonalization == "partial" or (orthogonalization == "auto" and longest >= _LONG_COLUMNS)
    )
    memory = _free_memory(A.getComm().tompi4py()) if memory_bytes is None else memory_bytes
    # a delayed orthogonalisation is one product ahead of its columns
    affordable = int(memory // (8 * max(longest, 1))) - delayed
    free = partial and not nested_sizes and ncv is None and which in _OUTER
    if free:
        sizes: tuple[int, ...] = ()
        wanted = min(max(_MOST_COLUMNS, 8 * k), dimension)
        capacity = max(min(wanted, affordable - 1), min(k + 2, dimension))
    else:
        sizes = _sizes(k, dimension, ncv, nested_sizes, variant, affordable, hermitian)
        capacity = sizes[-1]
    width = 1
    if variant == "block":
        width = min(block_size or chosen_width(A, k, dimension), dimension)
        sizes = tuple(sorted({min(-(-size // width) * width, dimension) for size in sizes}))
        capacity = sizes[-1]
    scale = _frobenius_norm(A) if variant == "published" else 0.0
    return Problem(
        A, k, n, which, hermitian, tol, criterion, max_it, sizes, capacity, variant, scale,
        partial, delayed, longest, width, seed, inner, locked,
        norm=0.0 if locked is None else norm_along(A, locked), exact=exact,
    )  # fmt: skip


def need_real_scalars() -> None:
    """Refuse a PETSc build with complex scalars. Not collective."""
    if np.dtype(PETSc.ScalarType).kind == "c":
        raise MiramnsError("this PETSc build has complex scalars; MIRAMns needs a real one")


#: Ends of the spectrum, whose rate of convergence can be predicted.
_OUTER = ("LM", "LR", "SR", "LA", "SA", "BE")


def _check_choices(
    which: Order, hermitian: bool, variant: str, criterion: str, orthogonalization: str
) -> None:
    if not callable(which):
        names = known_orders()
        if which not in names:
            raise MiramnsError(f"which={which!r} is not one of {', '.join(names)}")
        if which in ("LA", "SA", "BE") and not hermitian:
            raise MiramnsError(f"which={which!r} is for Hermitian operators: say LR, SR, LM, ...")
        if which in ("LI", "SI") and hermitian:
            raise MiramnsError(f"which={which!r}: eigenvalues of Hermitian operators are real")
    for name, value, choices in (
        ("variant", variant, ("default", "block", "published")),
        ("criterion", criterion, ("relative", "absolute", "norm")),
        ("orthogonalization", orthogonalization, get_args(Orthogonalization)),
    ):
        if value not in choices:
            raise MiramnsError(f"{name}={value!r} is not one of {', '.join(choices)}")


def _check_exact(A: PETSc.Mat, exact: PETSc.Mat, *, usable: bool) -> None:
    if not usable:
        raise MiramnsError(
            "an exact operator beside its approximation is for Hermitian operators, the default "
            "and block variants, and the usual inner product"
        )
    if exact.getSize() != A.getSize() or exact.getOwnershipRange() != A.getOwnershipRange():
        raise MiramnsError("the exact operator must have the sizes and the layout of A")


def _sizes(
    k: int,
    n: int,
    ncv: int | None,
    nested_sizes: Sequence[int] | None,
    variant: Variant,
    affordable: int,
    hermitian: bool,
) -> tuple[int, ...]:
    if nested_sizes is not None:
        sizes = tuple(sorted({min(int(size), n) for size in nested_sizes}))
        if not sizes:
            raise MiramnsError("nested_sizes is empty: give at least one size, or None")
    elif variant == "published":
        sizes = nested.published_sizes(k, n, ncv or 0)
    else:
        largest = ncv or nested.largest_size(k, n, min(affordable, n + 1), hermitian=hermitian)
        sizes = nested.checkpoints(k, min(largest, n))
    least = min(k + 2, n)
    if sizes[-1] < least:
        raise MiramnsError(
            f"need a largest subspace of at least min(k + 2, n) = {least}, got {sizes[-1]}"
        )
    return tuple(size for size in sizes if size >= min(k + 1, n))


def _free_memory(comm: MPI.Comm) -> float:
    """Bytes that the basis of one rank may take: its share of what the node has free."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        # not known on this system: only the largest number of columns limits
        free = 2**62
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    share = _MEMORY_SHARE * free / node.size
    node.Free()
    return float(comm.allreduce(share, op=MPI.MIN))


def _frobenius_norm(A: PETSc.Mat) -> float:
    """||A||_F where the operator can tell it, else 0."""
    if A.getType() in ("python", "shell"):
        return 0.0
    return float(A.norm(PETSc.NormType.FROBENIUS))


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
    """This rank's part of the start vector. Collective."""
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
