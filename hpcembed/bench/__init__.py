"""PCAs compared in one run: hpcembed's engines, scikit-learn, Intel's, torch, scipy, SLEPc, Heat.

``hpcembed bench pca --help``. Each answer is judged in double precision before it is timed.
"""

from hpcembed.bench.command import main

__all__ = ["main"]
