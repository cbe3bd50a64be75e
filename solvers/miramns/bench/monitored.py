"""How Krylov-Schur converges: a second run, never timed, in which a monitor writes down its course.

The monitor tells the relative error estimates of SLEPc, the same quantity that MIRAMns calls its
measure. Other solvers of SLEPc are not monitored: what their estimates mean differs.
"""

from __future__ import annotations

from petsc4py import PETSc
from slepc4py import SLEPc

from miramns.bench.answer import Course, Task
from miramns.bench.assembly import shell
from miramns.interop import CountedProducts
from miramns.start import seeded_normal

__all__ = ["krylov_schur_course"]

_WHICH = {
    "LM": SLEPc.EPS.Which.LARGEST_MAGNITUDE,
    "LR": SLEPc.EPS.Which.LARGEST_REAL,
    "LA": SLEPc.EPS.Which.LARGEST_REAL,
    "SR": SLEPc.EPS.Which.SMALLEST_REAL,
    "SA": SLEPc.EPS.Which.SMALLEST_REAL,
}


def krylov_schur_course(A: PETSc.Mat, task: Task) -> Course:
    """Run SLEPc's Krylov-Schur with its default ncv and note its estimates at each restart.

    Collective on ``A.comm``.
    """
    course = Course()
    counted = CountedProducts(A)
    operator = shell(A.getComm().tompi4py(), A.getSize()[0], counted, hermitian=task.hermitian)
    eps = SLEPc.EPS().create(comm=A.getComm())
    start = A.createVecLeft()

    def note(
        _eps: SLEPc.EPS, _its: int, _nconv: int, _values: list[complex], errors: list[float]
    ) -> None:
        if len(errors) >= task.k:
            course.products.append(counted.count)
            course.measures.append(float(max(errors[: task.k])))

    try:
        eps.setOperators(operator)
        kinds = SLEPc.EPS.ProblemType
        eps.setProblemType(kinds.HEP if task.hermitian else kinds.NHEP)
        eps.setType(SLEPc.EPS.Type.KRYLOVSCHUR)
        eps.setDimensions(task.k)
        eps.setTolerances(task.tol, 1_000_000)
        eps.setWhichEigenpairs(_WHICH[task.which])
        start.setArray(seeded_normal(task.seed, *A.getOwnershipRange()))
        eps.setInitialSpace(start)
        eps.setTrackAll(True)  # by default only the first pair that has not converged is estimated
        eps.setMonitor(note)
        eps.solve()
    finally:
        eps.destroy()
        start.destroy()
        operator.destroy()
    return course
