"""Benchmark of eigensolvers: ``python -m miramns.bench``, also under ``mpiexec``.

MIRAMns, SLEPc's solvers, SciPy and PRIMME solve the same problems from the same start vector to the
same true residual. Every answer is measured and compared with reference eigenvalues; an answer that
is wrong or incomplete is marked and has no time.

The package `harness` serves other benchmarks too, and `problems` holds the generators.
"""

from miramns.bench.command_line import main

__all__ = ["main"]
