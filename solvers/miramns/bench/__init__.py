"""Comparing eigensolvers honestly: ``python -m miramns.bench``, also under ``mpiexec``.

MIRAMns, SLEPc's solvers, scipy and PRIMME solve the same problems from the same start vector to the
same true residual. Every answer is measured and compared with reference eigenvalues; one that is
wrong or incomplete is marked, and its time does not count.
"""

from miramns.bench.command import main

__all__ = ["main"]
