"""The methods that are compared, each behind the same call.

All get the same operator, tolerance and start vector. MIRAMns and SLEPc's solvers are called as a
user of this library calls them; scipy's and PRIMME's run on one rank only.
"""

from __future__ import annotations

import fnmatch
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from petsc4py import PETSc
from slepc4py import SLEPc

import miramns
from miramns.bench.answer import Answer, RefusedError, Task, answer_of
from miramns.bench.files import BenchError
from miramns.bench.limit import Watch
from miramns.bench.peers import has_primme, run_primme, run_scipy
from miramns.bench.problems import Problem
from miramns.problem import Variant

__all__ = ["Method", "available", "select"]

Run = Callable[[PETSc.Mat, Task, Watch], Answer]

#: Restarts that nobody reaches: the limit of time ends a run that goes on for ever.
_MAX_RESTARTS = 1_000_000

#: Single sizes and ncv, in multiples of k.
_MULTIPLES = (2, 4, 8)


@dataclass(frozen=True)
class Method:
    """One way to find eigenpairs.

    Attributes
    ----------
    name : str
    about : str
        One line for ``--list``.
    run : callable
        ``run(A, task, watch)``. Collective.
    hermitian_only, one_rank_only : bool
    ends : bool
        It finds ends of the spectrum only: largest modulus where that is an end.
    modulus : bool
        It finds the largest modulus only: an end of the spectrum where that is the same.
    krylov : bool
        A Krylov method with full orthogonalisation: its products may serve as the floor.
    timed : bool
        False for a run made for its number of products alone.
    """

    name: str
    about: str
    run: Run
    hermitian_only: bool = False
    one_rank_only: bool = False
    ends: bool = False
    modulus: bool = False
    krylov: bool = False
    timed: bool = True

    def unfit(self, problem: Problem, which: str, ranks: int) -> str:
        """Why the method does not apply, or nothing where it does. Not collective."""
        if self.hermitian_only and not problem.hermitian:
            return "Hermitian operators only"
        if self.one_rank_only and ranks > 1:
            return "one rank only"
        if self.ends and which == "LM" and not problem.definite:
            return "no largest modulus"
        if self.modulus and which != "LM" and not (problem.definite and which in ("LR", "LA")):
            return "largest modulus only"
        return ""


def available() -> list[Method]:
    """All methods that this environment has, MIRAMns first. Not collective."""
    return [*_ours(), *_krylov_schur(), *_other_slepc(), *_peers()]


def select(words: list[str]) -> list[Method]:
    """Methods whose names match one of the patterns; all without any. Not collective.

    Raises
    ------
    BenchError
        When a pattern matches nothing.
    """
    methods = available()
    for word in words:
        if not any(fnmatch.fnmatchcase(method.name, word) for method in methods):
            names = ", ".join(method.name for method in methods)
            raise BenchError(f"method {word!r} is not one of {names}")
    return [
        method
        for method in methods
        if not words or any(fnmatch.fnmatchcase(method.name, word) for word in words)
    ]


def _ours() -> list[Method]:
    methods = [
        Method("miramns", "MIRAMns as it is by default", partial(_run_miramns, "default"),
               krylov=True),
        Method("unchecked", "the same without the search for missing copies",
               partial(_run_miramns, "default", check="never"), krylov=True),
    ]  # fmt: skip
    if "block" in typing.get_args(Variant):
        run = partial(_run_miramns, "block")
        methods.append(Method("block", "MIRAMns with blocks of vectors", run))
    run = partial(_run_miramns, "published")
    methods.append(Method("published", "MIRAMns with its published rules", run, krylov=True))
    for multiple in _MULTIPLES:
        run = partial(_run_miramns, "published", multiple=multiple)
        about = f"IRAM with the single size {multiple}k"
        methods.append(Method(f"iram-{multiple}k", about, run, krylov=True))
    about = "one long factorisation: products for the floor, never timed"
    methods.append(Method("unrestarted", about, _run_unrestarted, krylov=True, timed=False))
    return methods


def _krylov_schur() -> list[Method]:
    run = partial(_run_slepc, "krylovschur")
    methods = [Method("ks", "SLEPc Krylov-Schur, default ncv", run, krylov=True)]
    for multiple in _MULTIPLES:
        run = partial(_run_slepc, "krylovschur", multiple=multiple)
        about = f"SLEPc Krylov-Schur, ncv = {multiple}k"
        methods.append(Method(f"ks-{multiple}k", about, run, krylov=True))
    return methods


def _other_slepc() -> list[Method]:
    hermitian_only = ("lobpcg", "primme", "trlan", "blopex")
    ends = ("lobpcg", "blopex")
    names = ("arnoldi", "lobpcg", "gd", "jd", "subspace", "arpack", *hermitian_only[1:])
    lanczos = [
        Method(
            f"slepc-lanczos-{reorthogonalisation}",
            f"SLEPc lanczos, {reorthogonalisation} reorthogonalisation",
            partial(_run_lanczos, reorthogonalisation),
            hermitian_only=True,
        )
        for reorthogonalisation in ("full", "selective", "partial")
    ]
    return lanczos + [
        Method(
            f"slepc-{name}",
            f"SLEPc {name}",
            partial(_run_slepc, name),
            hermitian_only=name in hermitian_only,
            ends=name in ends,
            modulus=name == "subspace",
            krylov=name == "arnoldi",
        )
        for name in names
        if _has_slepc(name)
    ]


def _has_slepc(eps_type: str) -> bool:
    eps = SLEPc.EPS().create(comm=PETSc.COMM_SELF)
    try:
        eps.setType(eps_type)
    except (PETSc.Error, SystemError):
        # SLEPc 3.26's bindings report the one as the other here
        return False
    finally:
        eps.destroy()
    return True


def _peers() -> list[Method]:
    methods = [Method("scipy", "scipy eigsh or eigs (ARPACK)", run_scipy, one_rank_only=True)]
    if has_primme():
        for name, preset in (("primme", ""), ("primme-gdk", "PRIMME_GD_Olsen_plusK")):
            run = partial(run_primme, preset=preset)
            about = f"PRIMME, {preset or 'its default method'}"
            methods.append(Method(name, about, run, hermitian_only=True, one_rank_only=True))
    return methods


def _run_miramns(
    variant: str,
    A: PETSc.Mat,
    task: Task,
    watch: Watch,
    *,
    multiple: int = 0,
    check: str = "auto",
) -> Answer:
    options: dict[str, Any] = {"variant": variant, "multiplicity_check": check}
    n = A.getSize()[0]
    if multiple:
        options["nested_sizes"] = [min(max(multiple * task.k, task.k + 2), n)]
    if variant == "published":
        # by default it starts from equal entries
        options["start"] = miramns.seeded_normal(task.seed, *A.getOwnershipRange())
    result = miramns.solve(
        A,
        task.k,
        which=task.which,
        hermitian=task.hermitian,
        tol=task.tol,
        max_it=_MAX_RESTARTS,
        seed=task.seed,
        on_check=watch.on_check,
        **options,
    )
    return answer_of(result)


#: Memory that the unrestarted run may take for its basis, all ranks together.
_LONGEST_BASIS_BYTES = 1 << 30


def _run_unrestarted(A: PETSc.Mat, task: Task, watch: Watch) -> Answer:
    n = A.getSize()[0]
    ncv = min(n, max(600, 40 * task.k), _LONGEST_BASIS_BYTES // (8 * n))
    if ncv < min(n, 10 * task.k):
        raise RefusedError("too large for one basis")
    result = miramns.solve(
        A,
        task.k,
        which=task.which,
        hermitian=task.hermitian,
        tol=task.tol,
        max_it=0,
        ncv=ncv,
        seed=task.seed,
        on_check=watch.on_check,
    )
    return answer_of(result)


def _run_lanczos(reorthogonalisation: str, A: PETSc.Mat, task: Task, watch: Watch) -> Answer:
    # SLEPc wants the choice to be explicit, and takes it from its options here
    prefix = f"bench_{reorthogonalisation}_"
    PETSc.Options()[f"{prefix}eps_lanczos_reorthog"] = reorthogonalisation
    return _run_slepc("lanczos", A, task, watch, prefix=prefix)


def _run_slepc(
    eps_type: str,
    A: PETSc.Mat,
    task: Task,
    watch: Watch,
    *,
    multiple: int = 0,
    prefix: str = "",
) -> Answer:
    n = A.getSize()[0]
    ncv = min(max(multiple * task.k, task.k + 2), n) if multiple else None
    # LOBPCG knows the ends of the spectrum only, subspace iteration the largest modulus
    # only; each is asked where that is the same
    which = "LR" if eps_type in ("lobpcg", "blopex") and task.which == "LM" else task.which
    if eps_type == "subspace":
        which = "LM"
    # the limit costs a call per product, so the runs that are known to end go without
    limited = watch.seconds < float("inf")
    operator = watch.watched(A, task.hermitian) if limited else A
    try:
        result = miramns.slepc(
            operator,
            task.k,
            eps_type=eps_type,
            which=which,
            hermitian=task.hermitian,
            tol=task.tol,
            max_it=_MAX_RESTARTS,
            ncv=ncv,
            seed=task.seed,
            options_prefix=prefix,
        )
    finally:
        if limited:
            operator.destroy()
    return answer_of(result)
