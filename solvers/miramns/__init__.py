"""MIRAMns: dominant eigenpairs by Arnoldi with nested subspaces, on PETSc, with true residuals.

Examples
--------
>>> import miramns
>>> from petsc4py import PETSc
>>> A = PETSc.Mat().createAIJ((50, 50), nnz=1, comm=PETSc.COMM_SELF)
>>> for i in range(50):
...     A[i, i] = i + 1.0
>>> A.assemble()
>>> result = miramns.solve(A, k=10, hermitian=True)
>>> result.converged, result.n_converged
(True, 10)
"""

from miramns.certify import certify, certify_by_samples
from miramns.errors import MiramnsError, OperatorError
from miramns.interfaces.eps import MIRAMns
from miramns.interfaces.scipy import NoConvergence, eigs, eigsh
from miramns.interfaces.slepc import slepc
from miramns.iteration.subspace_size import largest_size
from miramns.problem import Options
from miramns.random_vectors import seeded_normal
from miramns.result import ConvergedReason, EigenResult, IterationRecord
from miramns.solve import solve

__all__ = [
    "ConvergedReason",
    "EigenResult",
    "IterationRecord",
    "MIRAMns",
    "MiramnsError",
    "NoConvergence",
    "OperatorError",
    "Options",
    "__version__",
    "certify",
    "certify_by_samples",
    "eigs",
    "eigsh",
    "largest_size",
    "seeded_normal",
    "slepc",
    "solve",
]

__version__ = "0.1.0"
