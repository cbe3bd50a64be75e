"""Methods that are compared, all with the same call.

All methods have the same operator, tolerance and start vector. MIRAMns and SLEPc's solvers are
called by the public functions of miramns; SciPy and PRIMME run on one rank only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from petsc4py import PETSc
from slepc4py import SLEPc

import miramns
from miramns.bench.answer import Answer, RefusedError, Task, answer_of
from miramns.bench.harness.methods import Method
from miramns.bench.peers import has_primme, run_primme, run_scipy
from miramns.bench.problems.catalogue import Problem
from miramns.bench.time_limit import TimeLimit
from miramns.problem import MultiplicityCheck

Run = Callable[[PETSc.Mat, Task, TimeLimit], Answer]

#: Limit of restarts that no run reaches: an endless run ends at its time limit.
_MAX_RESTARTS = 1_000_000

#: Sizes of the subspace (ncv) in multiples of k.
_MULTIPLES = (2, 4, 8)

#: SLEPc's other solvers, and their properties.
_SLEPC: dict[str, dict[str, bool]] = {
    "arnoldi": {"krylov": True},
    "lobpcg": {"hermitian_only": True, "extremes_only": True},
    "gd": {},
    "jd": {},
    "subspace": {"modulus_only": True},
    "arpack": {},
    "primme": {"hermitian_only": True},
    "trlan": {"hermitian_only": True},
    "blopex": {"hermitian_only": True, "extremes_only": True},
}

#: Preset methods of PRIMME; an empty one stands for its default.
_PRIMME = {"primme": "", "primme-gdk": "PRIMME_GD_Olsen_plusK"}


@dataclass(frozen=True)
class EigensolverMethod(Method):
    """Method to compute eigenpairs.

    Attributes
    ----------
    run : callable
        ``run(A, task, limit)`` returns an :class:`Answer`. Collective.
    hermitian_only, one_rank_only : bool
    extremes_only : bool
        The method computes the largest or smallest eigenvalues only, and those of largest modulus
        where they are the largest.
    modulus_only : bool
        The method computes eigenvalues of largest modulus only, and the largest ones where they
        have the largest modulus.
    krylov : bool
        A Krylov method with full orthogonalisation: its number of products may be the floor.
    timed : bool
        False for a run that is made for its number of products only.
    """

    run: Run
    hermitian_only: bool = False
    one_rank_only: bool = False
    extremes_only: bool = False
    modulus_only: bool = False
    krylov: bool = False
    timed: bool = True

    def unfit(self, problem: Problem, which: str, ranks: int) -> str:
        """Return why the method does not apply; an empty text if it does."""
        if self.hermitian_only and not problem.hermitian:
            return "Hermitian operators only"
        if self.one_rank_only and ranks > 1:
            return "one rank only"
        if self.extremes_only and which == "LM" and not problem.definite:
            return "no largest modulus"
        is_modulus = which == "LM" or (problem.definite and which in ("LR", "LA"))
        if self.modulus_only and not is_modulus:
            return "largest modulus only"
        return ""


def available() -> list[EigensolverMethod]:
    """Return all methods that are installed, MIRAMns first."""
    krylov = partial(EigensolverMethod, krylov=True)
    published, krylov_schur = partial(_run_miramns, "published"), partial(_run_slepc, "krylovschur")
    return [
        krylov("miramns", "MIRAMns with its defaults", partial(_run_miramns, "default")),
        krylov("unchecked", "the same without the search for missing copies",
               partial(_run_miramns, "default", check="never")),
        EigensolverMethod("block", "MIRAMns with blocks of vectors",
                          partial(_run_miramns, "block")),
        krylov("published", "MIRAMns with its published rules", published),
        *(krylov(f"iram-{m}k", f"IRAM with the single size {m}k", partial(published, multiple=m))
          for m in _MULTIPLES),
        krylov("unrestarted", "one long factorisation: products for the floor, never timed",
               _run_unrestarted, timed=False),
        krylov("ks", "SLEPc Krylov-Schur, default ncv", krylov_schur),
        *(krylov(f"ks-{m}k", f"SLEPc Krylov-Schur, ncv = {m}k", partial(krylov_schur, multiple=m))
          for m in _MULTIPLES),
        *(EigensolverMethod(f"slepc-lanczos-{kind}", f"SLEPc lanczos, {kind} reorthogonalisation",
                            partial(_run_lanczos, kind), hermitian_only=True)
          for kind in ("full", "selective", "partial")),
        *(EigensolverMethod(f"slepc-{name}", f"SLEPc {name}", partial(_run_slepc, name),
                            **properties)
          for name, properties in _SLEPC.items() if _has_slepc(name)),
        EigensolverMethod("scipy", "scipy eigsh or eigs (ARPACK)", run_scipy, one_rank_only=True),
        *(EigensolverMethod(name, f"PRIMME, {preset or 'its default method'}",
                            partial(run_primme, preset=preset),
                            hermitian_only=True, one_rank_only=True)
          for name, preset in _PRIMME.items() if has_primme()),
    ]  # fmt: skip


def _has_slepc(eps_type: str) -> bool:
    eps = SLEPc.EPS().create(comm=PETSc.COMM_SELF)
    try:
        eps.setType(eps_type)
    except (PETSc.Error, SystemError):
        # the bindings of SLEPc 3.26 raise SystemError for PETSc.Error here
        return False
    finally:
        eps.destroy()
    return True


def _run_miramns(
    variant: str,
    A: PETSc.Mat,
    task: Task,
    limit: TimeLimit,
    *,
    multiple: int = 0,
    check: MultiplicityCheck = "auto",
) -> Answer:
    sizes = [_subspace_size(A, task, multiple)] if multiple else None
    options = miramns.Options(nested_sizes=sizes, multiplicity_check=check)
    start = None
    if variant == "published":
        # its default start vector has equal entries
        start = miramns.seeded_normal(task.seed, *A.getOwnershipRange())
    return _solve(
        A, task, limit, variant=variant, max_it=_MAX_RESTARTS, start=start, options=options
    )


#: Memory of the basis of the unrestarted run, all ranks together.
_LONGEST_BASIS_BYTES = 1 << 30


def _run_unrestarted(A: PETSc.Mat, task: Task, limit: TimeLimit) -> Answer:
    n = A.getSize()[0]
    ncv = min(n, max(600, 40 * task.k), _LONGEST_BASIS_BYTES // (8 * n))
    if ncv < min(n, 10 * task.k):
        raise RefusedError("too large for one basis")
    return _solve(A, task, limit, max_it=0, ncv=ncv)


def _solve(A: PETSc.Mat, task: Task, limit: TimeLimit, **settings: Any) -> Answer:
    settings |= {"hermitian": task.hermitian, "tol": task.tol, "seed": task.seed}
    result = miramns.solve(A, task.k, which=task.which, monitor=limit.monitor, **settings)
    return answer_of(result)


def _subspace_size(A: PETSc.Mat, task: Task, multiple: int) -> int:
    return int(min(max(multiple * task.k, task.k + 2), A.getSize()[0]))


def _run_lanczos(reorthogonalisation: str, A: PETSc.Mat, task: Task, limit: TimeLimit) -> Answer:
    # SLEPc takes this choice from its options only
    prefix = f"bench_{reorthogonalisation}_"
    PETSc.Options()[f"{prefix}eps_lanczos_reorthog"] = reorthogonalisation
    return _run_slepc("lanczos", A, task, limit, options_prefix=prefix)


def _run_slepc(
    eps_type: str, A: PETSc.Mat, task: Task, limit: TimeLimit, *, multiple: int = 0, **options: Any
) -> Answer:
    # a method applies only if these are the same eigenvalues as those of the task
    is_extreme = "extremes_only" in _SLEPC.get(eps_type, {})
    which = "LR" if is_extreme and task.which == "LM" else task.which
    if eps_type == "subspace":
        which = "LM"
    # the time limit adds a Python call to every product, so timed repeats have none
    limited = limit.seconds < float("inf")
    operator = limit.limited(A) if limited else A
    options |= {"hermitian": task.hermitian, "tol": task.tol, "seed": task.seed}
    if multiple:
        options["ncv"] = _subspace_size(A, task, multiple)
    try:
        result = miramns.slepc(
            operator, task.k, eps_type=eps_type, which=which, max_it=_MAX_RESTARTS, **options
        )
    finally:
        if limited:
            operator.destroy()
    return answer_of(result)
