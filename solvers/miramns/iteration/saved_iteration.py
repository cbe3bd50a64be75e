"""Saved iterations: a solve that is killed continues from its last checkpoint on disk.

The state is saved between two nested sizes, where it consists of the basis with its residual
directions, the projected matrix, the counters, the state of the choice of sizes, of the test of
stagnation and of the iteration, and the history. Random numbers are functions of the seed and of
the counters. All of it comes back with its bits, so on the same number of ranks the iteration
repeats the one that was not interrupted. On another number each rank reads the rows that it owns,
and sums have other roundings.

Sizes and widths that depend on the free memory or on the number of ranks are taken from the
checkpoint. The true residuals of the answer and the search for missing copies are not saved; they
are repeated. A state that is not finite is an error, and earlier checkpoints stay.

The identity of a checkpoint consists of the arguments of the solve. Another operator is refused as
well: the norm of its product with a random vector is saved. The vector does not depend on the
number of ranks.

A shell operator whose products depend on earlier ones has methods ``get_state()``, which returns a
dict of arrays that are equal on all ranks, and ``set_state(state)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from miramns.agreement import raise_failure
from miramns.checkpointing import CheckpointStore, Saved, Snapshot, restoring
from miramns.checkpointing.manifest import JSON
from miramns.errors import CheckpointMismatchError, OperatorError
from miramns.factorization.arnoldi import ArnoldiFactorization
from miramns.factorization.dcgs2 import DCGS2Factorization
from miramns.iteration.plain_state import (
    NOT_SAVED,
    attributes,
    packed,
    set_attributes,
    unpacked,
)
from miramns.problem import Options, Problem
from miramns.products import apply_columns, is_shell, require_norm
from miramns.random_vectors import seeded_normal
from miramns.result import ConvergenceHistory

#: Name of the checkpoints of an iteration.
_NAME = "eigensolver"

#: Stream of the vector whose product identifies an operator.
_STREAM = 2**42

#: Relative difference of its norm that rounding may cause, also with products in single precision.
_SAME, _SAME_SINGLE = 1e-10, 1e-5

#: What a checkpoint keeps of a problem.
_RESOLVED = ("capacity", "sizes", "first_cycle", "width")


@dataclass
class Progress:
    """Numbers of an iteration outside of its factorisation.

    Attributes
    ----------
    trust : float
        Factor of the tolerances that estimates have to meet.
    condition : float
        Condition number by which the allowance for rounding is divided.
    scale : float
        ||A||_F or its bound, for the published variant.
    n_restarts, n_certificate_matvec : int
    """

    trust: float = 1.0
    condition: float = 1.0
    scale: float = 0.0
    n_restarts: int = 0
    n_certificate_matvec: int = 0


@dataclass
class SolverCheckpoint:
    """The checkpoints of one solve.

    Attributes
    ----------
    store : CheckpointStore
    identity : dict
        Arguments of the solve.
    saved : Saved or None
        The checkpoint to continue from.
    probe : float or None
        Norm of the product that identifies the operator, once it is known.
    """

    store: CheckpointStore
    identity: dict[str, JSON]
    saved: Saved | None
    probe: float | None = None


def solve_identity(A: PETSc.Mat, options: Options, **arguments: Any) -> dict[str, JSON]:
    """Return whatever must not change between the parts of a solve."""
    from miramns import __version__

    which = arguments.pop("which")
    names = ("criterion", "orthogonalization", "block_size", "multiplicity_check")
    sizes = options.nested_sizes
    return {
        "miramns": __version__,
        "n": A.getSize()[0],
        "which": getattr(which, "__qualname__", repr(which)) if callable(which) else which,
        "nested_sizes": None if sizes is None else [int(size) for size in sizes],
        **arguments,
        **{name: getattr(options, name) for name in names},
        **{f"has_{name}": getattr(options, name) is not None for name in ("inner", "exact")},
        "n_deflated": 0 if options.deflation is None else int(options.deflation.shape[1]),
    }


def with_checkpoint(
    problem: Problem, store: CheckpointStore | None, identity: dict[str, JSON]
) -> Problem:
    """Return the problem with its checkpoints, and with the sizes of the one to continue from.

    Collective.

    Raises
    ------
    CheckpointMismatchError
        The checkpoint is of other arguments or of another operator.
    """
    if store is None:
        return problem
    saved = store.newest(_NAME, identity=identity)
    checkpoint = SolverCheckpoint(store, identity, saved)
    if saved is None:
        return replace(problem, checkpoint=checkpoint)
    checkpoint.probe = _probe(problem)
    with restoring(saved.path):
        before, resolved, orthogonalization = _resolved(saved.state, problem.operator.getSize()[0])
    allowed = _SAME if problem.options.exact is None else _SAME_SINGLE
    if not abs(checkpoint.probe - before) <= allowed * abs(before):
        raise CheckpointMismatchError(
            f"{saved.path}: the checkpoint is of another operator: the norm of a product was "
            f"{before:.10g}, is {checkpoint.probe:.10g}: choose another folder, or remove this one",
            {"operator": (before, checkpoint.probe)},
        )
    options = replace(problem.options, orthogonalization=orthogonalization)
    return replace(problem, options=options, checkpoint=checkpoint, **resolved)


class SavedIteration:
    """Restore an iteration from its checkpoint, and save it when that is due.

    Collective.

    Parameters
    ----------
    problem, factorization, history
    **parts : object
        Further objects whose attributes are the state: of numbers, texts, and lists of them.
    """

    def __init__(
        self,
        problem: Problem,
        factorization: ArnoldiFactorization,
        history: ConvergenceHistory,
        **parts: object,
    ) -> None:
        self._problem, self._factorization, self._history = problem, factorization, history
        self._parts = {"factorization": factorization, **parts}
        self._checkpoint = problem.checkpoint
        if self._checkpoint is not None and self._checkpoint.saved is not None:
            self._restore(self._checkpoint.saved)

    def offer(self) -> None:
        """Save the state if a checkpoint is due. Collective.

        Raises
        ------
        StoppedAtCheckpointError
            After a checkpoint, if the run was asked to stop.
        """
        if self._checkpoint is not None:
            size = 8 * self._factorization.n * self._n_columns()
            identity = self._checkpoint.identity
            self._checkpoint.store.offer(_NAME, self._snapshot, size, identity=identity)

    def _n_columns(self) -> int:
        """Return the number of columns of the basis that are in use."""
        f = self._factorization
        is_ahead = isinstance(f, DCGS2Factorization) and f.ahead
        return f.size + f.width + is_ahead

    def _snapshot(self) -> Snapshot:
        checkpoint, p, f = self._checkpoint, self._problem, self._factorization
        assert checkpoint is not None  # checked by `offer`
        if checkpoint.probe is None:
            checkpoint.probe = _probe(p)
        shared = {name: value for name, value in vars(f).items() if _is_saved_array(name, value)}
        for role, A in _operators(p):
            of_operator = _operator_state(A)
            shared |= {f"{role}.{name}": value for name, value in of_operator.items()}
        basis = f.basis[:, : self._n_columns()]
        _require_finite(f.comm, basis)
        state = {
            "probe": checkpoint.probe,
            "problem": {name: getattr(p, name) for name in _RESOLVED}
            | {"orthogonalization": p.options.orthogonalization},
            "parts": {name: attributes(part) for name, part in self._parts.items()},
        }
        return Snapshot({"basis": basis}, shared | packed(self._history), state)

    def _restore(self, saved: Saved) -> None:
        with restoring(saved.path):
            self._restore_parts(saved)

    def _restore_parts(self, saved: Saved) -> None:
        f = self._factorization
        for name, part in self._parts.items():
            set_attributes(part, saved.state["parts"][name])
        for name, value in list(vars(f).items()):
            if _is_saved_array(name, value):
                setattr(f, name, _like(value, saved.shared(name), name))
        self._require_projected(saved.state["probe"])
        last = getattr(self._parts.get("sizes"), "_last", 0)
        if not 0 <= f.size <= self._n_columns() <= f.basis.shape[1] or last > f.capacity:
            raise ValueError(f"size {f.size} and last size {last} of {f.basis.shape[1]} columns")
        for role, A in _operators(self._problem):
            names = [name for name in saved.shapes if name.startswith(f"{role}.")]
            if names:
                state = {name.partition(".")[2]: saved.shared(name) for name in names}
                A.getPythonContext().set_state(state)
        saved.read_into("basis", f.rows[0], f.basis[:, : self._n_columns()])
        _require_basis(f, f.basis[:, : self._n_columns()])
        self._history.records[:] = unpacked(saved)

    def _require_projected(self, probe: float) -> None:
        """Raise an error if the projected matrix has entries beyond any norm of the operator.

        The probe estimates ||A||_F, unless the inner product is another one.
        """
        f = self._factorization
        largest = 1e6 * probe if f.inner is None else np.inf
        if not np.all(np.abs(f.hessenberg) <= largest):
            raise ValueError(f"the projected matrix has entries above {largest:.3g}")


def _is_saved_array(name: str, value: object) -> bool:
    return isinstance(value, np.ndarray) and name not in NOT_SAVED


def _like(before: NDArray[Any], array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array that takes the place of another one."""
    fixed = name == "hessenberg" and array.shape != before.shape
    if fixed or (array.ndim, array.dtype) != (before.ndim, before.dtype):
        raise ValueError(f"{name} is an array of type {array.dtype} and shape {array.shape}")
    return array


def _require_basis(f: ArnoldiFactorization, basis: NDArray[np.float64]) -> None:
    """Raise an error on all ranks if a restored basis cannot be one. Collective."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->j", basis, basis)
    squares = f.comm.allreduce(squares)
    # a basis of another inner product has other norms, and a column in work has none yet
    norms = squares[: f.size if isinstance(f, DCGS2Factorization) else None]
    is_unit = (np.abs(norms - 1.0) < 0.1) | (norms == 0.0)
    if not np.isfinite(squares).all() or not (is_unit.all() or f.inner is not None):
        raise ValueError("the columns of the basis have no norm of 1")


def _resolved(state: Any, n: int) -> tuple[float, dict[str, Any], Any]:
    """Return the probe, the arguments that a solve had chosen, and the orthogonalisation."""
    orthogonalization = state["problem"]["orthogonalization"]
    if orthogonalization not in ("full", "partial", "dcgs2"):
        raise ValueError(f"orthogonalization is {orthogonalization!r}")
    resolved = {name: state["problem"][name] for name in _RESOLVED}
    resolved["sizes"] = sizes = tuple(map(int, resolved["sizes"]))
    capacity, first, width = (int(resolved[name]) for name in _RESOLVED if name != "sizes")
    last = sizes[-1] if sizes else 0
    if not 0 <= last <= capacity <= n + width or not 0 <= first <= capacity or not 0 < width <= n:
        raise ValueError(f"{capacity} columns for sizes up to {last} and width {width}")
    return float(state["probe"]), resolved, orthogonalization


def _require_finite(comm: MPI.Comm, basis: NDArray[np.float64]) -> None:
    """Raise an error on all ranks if a basis has entries that are not finite. Collective."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(basis.sum())  # takes no memory; the entries of a basis do not overflow
    if not comm.allreduce(bool(np.isfinite(total)), op=MPI.LAND):
        raise_failure(comm)
        raise OperatorError(
            "the basis of the eigensolver has entries that are not finite: check the data for NaN "
            "or Inf"
        )


def _probe(problem: Problem) -> float:
    """Return the norm of the product with a fixed random vector. Collective."""
    A = problem.operator
    before = _operator_state(A)
    first, last = A.getOwnershipRange()
    x = seeded_normal(0, first, last, stream=_STREAM)
    product = apply_columns(A, x[:, None])
    comm: MPI.Comm = A.getComm().tompi4py()
    squared = comm.allreduce(float(np.vdot(product, product)), op=MPI.SUM)
    require_norm(comm, squared, product, 1.0, 1)  # a state with NaN is no state to continue from
    if before:
        A.getPythonContext().set_state(before)
    return float(np.sqrt(squared))


def _operators(problem: Problem) -> list[tuple[str, PETSc.Mat]]:
    exact = problem.options.exact
    return [("operator", problem.operator), *([] if exact is None else [("exact", exact)])]


def _operator_state(A: PETSc.Mat) -> dict[str, NDArray[Any]]:
    """Return the state of a shell operator that has one."""
    if not is_shell(A) or A.getType() != PETSc.Mat.Type.PYTHON:
        return {}
    get_state = getattr(A.getPythonContext(), "get_state", None)
    return dict(get_state()) if get_state else {}
