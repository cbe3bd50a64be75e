"""MIRAMns: dominant eigenpairs by Arnoldi with nested subspaces, on PETSc, with a certificate.

>>> import miramns
>>> result = miramns.solve(A, k=10, hermitian=True)      # A is a PETSc Mat   # doctest: +SKIP
>>> result.converged, result.residual_norms.max()                            # doctest: +SKIP
"""

from miramns.certified import certify
from miramns.convergence import MiramnsError, OperatorError, Reason
from miramns.eps import MIRAMns
from miramns.interop import slepc
from miramns.method import solve
from miramns.nested import largest_size
from miramns.result import Check, EigenResult
from miramns.scipy_like import NoConvergence, eigs, eigsh
from miramns.start import seeded_normal

__all__ = [
    "Check",
    "EigenResult",
    "MIRAMns",
    "MiramnsError",
    "NoConvergence",
    "OperatorError",
    "Reason",
    "certify",
    "eigs",
    "eigsh",
    "largest_size",
    "seeded_normal",
    "slepc",
    "solve",
]
