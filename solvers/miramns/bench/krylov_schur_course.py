"""Course of SLEPc's Krylov-Schur, from a second run with a monitor, which is never timed.

The monitor receives the relative error estimates of SLEPc, the same quantity as MIRAMns's measure.
Other solvers of SLEPc are not monitored: their estimates have other meanings.
"""

from __future__ import annotations

from petsc4py import PETSc
from slepc4py import SLEPc

from miramns import seeded_normal
from miramns.bench.answer import Course, Task
from miramns.interfaces.slepc import problem_type, which_eigenpairs
from miramns.products import CountedProducts, shell_like, vector_like


def krylov_schur_course(A: PETSc.Mat, task: Task) -> Course:
    """Run SLEPc's Krylov-Schur with its default ncv and record its estimates at each restart.

    Collective on ``A.comm``.
    """
    course = Course()
    counted = CountedProducts(A)
    operator = shell_like(A, counted)
    eps = SLEPc.EPS().create(comm=A.getComm())
    start = vector_like(A, seeded_normal(task.seed, *A.getOwnershipRange()))

    def record(
        _eps: SLEPc.EPS, _its: int, _nconv: int, _values: list[complex], errors: list[float]
    ) -> None:
        if len(errors) >= task.k:
            course.products.append(counted.count)
            course.measures.append(float(max(errors[: task.k])))

    try:
        eps.setOperators(operator)
        eps.setProblemType(problem_type(task.hermitian, generalized=False))
        eps.setType(SLEPc.EPS.Type.KRYLOVSCHUR)
        eps.setDimensions(task.k)
        eps.setTolerances(task.tol, 1_000_000)
        eps.setWhichEigenpairs(which_eigenpairs(task.which))
        eps.setInitialSpace(start)
        eps.setTrackAll(True)  # by default only the first unconverged pair is estimated
        eps.setMonitor(record)
        eps.solve()
    finally:
        eps.destroy()
        start.destroy()
        operator.destroy()
    return course
