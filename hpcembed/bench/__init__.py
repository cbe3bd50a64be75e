"""Benchmark of PCAs: hpcembed, scikit-learn, its extension by Intel, torch, SciPy, SLEPc, Heat.

``hpcembed bench pca --help``. The harness is that of :mod:`miramns.bench`. Each answer is measured
in double precision before its method is timed.
"""

from hpcembed.bench.command_line import main

__all__ = ["main"]
