"""The solve of a MIRAMns object: from the settings of EPS to the arguments of miramns.solve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from slepc4py import SLEPc

from miramns.agreement import same_on_all_ranks
from miramns.errors import MiramnsError
from miramns.interfaces.eps_selection import order_of_which, transformed_order
from miramns.problem import Options, Variant
from miramns.result import EigenResult, IterationRecord
from miramns.solve import solve
from miramns.tolerances import Criterion
from miramns.transform.pencil import pencil_of_st, solve_pencil
from miramns.transform.spectral import Transformation

_PROBLEM = SLEPc.EPS.ProblemType

_CRITERIA: dict[int, Criterion] = {
    SLEPc.EPS.Conv.REL: "relative",
    SLEPc.EPS.Conv.ABS: "absolute",
    SLEPc.EPS.Conv.NORM: "norm",
}


@dataclass
class MethodSettings:
    """Settings of :func:`miramns.solve` without a method in EPS, and spaces for the next solve."""

    variant: Variant = "default"
    seed: int = 0
    options: Options = field(default_factory=Options)
    start: NDArray[np.float64] | None = None
    deflation: NDArray[np.float64] | None = None
    comparison: tuple[Callable[..., int], Any, dict[str, Any]] | None = None


def setting(
    name: str, description: str, convert: Callable[[Any], Any] = lambda value: value
) -> tuple[Callable[[Any, Any], None], Callable[[Any], Any]]:
    """Return a method that sets a method setting, and one that returns it."""
    in_options = name not in ("variant", "seed")

    def set_(eps: Any, value: Any) -> None:
        value = convert(value)
        if in_options:
            eps.method.options = replace(eps.method.options, **{name: value})
        else:
            setattr(eps.method, name, value)

    def get(eps: Any) -> Any:
        return getattr(eps.method.options if in_options else eps.method, name)

    set_.__doc__ = f"Set {description}. Logically collective."
    get.__doc__ = f"Return {description}."
    return set_, get


def _listed(space: PETSc.Vec | Sequence[PETSc.Vec]) -> list[PETSc.Vec]:
    vectors = [space] if isinstance(space, PETSc.Vec) else list(space)
    if not vectors:
        raise MiramnsError("a space needs at least one vector")
    return vectors


def columns_of(space: PETSc.Vec | Sequence[PETSc.Vec]) -> NDArray[np.float64]:
    """Return this rank's rows of some vectors, copied."""
    return np.column_stack([vector.getArray(readonly=1) for vector in _listed(space)])


def unit_sum(space: PETSc.Vec | Sequence[PETSc.Vec]) -> NDArray[np.float64]:
    """Return this rank's rows of the sum of some vectors, each at unit length. Collective."""
    lengths = [vector.norm() or 1.0 for vector in _listed(space)]
    return np.asarray((columns_of(space) / lengths).sum(axis=1))


def resolved_problem_type(kind: int, generalized: bool, B: PETSc.Mat | None) -> int:
    """Return the problem type for the matrices that are given."""
    if B is None and (not kind or generalized):
        # as EPS: a standard problem without B, nonsymmetric by default
        return int(_PROBLEM.HEP if kind in (_PROBLEM.HEP, _PROBLEM.GHEP) else _PROBLEM.NHEP)
    if B is not None and kind and not generalized:
        raise MiramnsError("two matrices were given: the problem type must be GHEP or GNHEP")
    return kind or int(_PROBLEM.GNHEP)


def check_agreement(eps: SLEPc.EPS) -> None:
    """Raise an error if settings differ between ranks. Collective."""
    st = eps.getST()
    same_on_all_ranks(
        eps.getComm().tompi4py(),
        problem_type=eps.getProblemType(),
        which=eps.getWhichEigenpairs(),
        target=eps.getTarget(),
        dimensions=SLEPc.EPS.getDimensions(eps),
        tolerances=eps.getTolerances(),
        transformation=st.getType(),
        shift=st.getShift(),
    )


def solve_with(
    eps: SLEPc.EPS,
    method: MethodSettings,
    transformation: Transformation,
    monitor: Callable[[IterationRecord], None] | None,
) -> EigenResult:
    """Solve the problem that `eps` describes. Collective."""
    A, B = eps.getOperators()
    n_deflated = 0 if method.deflation is None else method.deflation.shape[1]
    dimension = A.getSize()[0] - n_deflated
    nev, ncv, _mpd = SLEPc.EPS.getDimensions(eps)
    tol, cycles = eps.getTolerances()
    k = min(max(nev, 1), dimension)
    hermitian = bool(eps.isHermitian())
    which = order_of_which(
        eps.getWhichEigenpairs(), float(eps.getTarget()), method.comparison, hermitian
    )
    criterion = _CRITERIA[eps.getConvergenceTest()]
    settings: dict[str, Any] = {
        "which": transformed_order(which, transformation),
        "tol": tol,
        "max_it": cycles - 1,
        # EPS accepts ncv = nev + 1, the method needs one more
        "ncv": min(max(ncv, k + 2), dimension) if ncv > 0 else None,
        "variant": method.variant,
        "seed": method.seed,
        "start": method.start,
        "monitor": monitor,
        "options": replace(method.options, criterion=criterion, deflation=method.deflation),
    }
    if B is None and transformation.kind == "shift":
        return solve(A, k, hermitian=hermitian, **settings)
    with pencil_of_st(eps.getST(), transformation, A, B, hermitian) as pencil:
        return solve_pencil(pencil, k, **settings)
