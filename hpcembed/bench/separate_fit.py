"""One fit in a process of its own, which measures its peak of memory.

The process creates the table again and fits a small one first, so that libraries are loaded and
threads are started before its memory is measured.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from threadpoolctl import threadpool_limits

from hpcembed.bench.data_sets import load, parse
from hpcembed.bench.methods import METHODS, PcaTask
from miramns.bench.harness.comparison import EXPECTED_ERRORS
from miramns.bench.harness.separate_process import Outcome, run_separately

#: Errors by which a method refuses a table; hpcembed's ConvergenceError is an ArithmeticError.
EXPECTED_PCA_ERRORS: tuple[type[Exception], ...] = (*EXPECTED_ERRORS, ArithmeticError, TypeError)


def set_threads(count: int) -> None:
    """Set the number of threads of every library that is loaded."""
    threadpool_limits(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    if "sklearnex" in sys.modules:
        import_module("daal4py").daalinit(count)


def fit_separately(order: dict[str, Any], limit: float) -> Outcome:
    """Fit in a process of its own, which is killed after `limit` seconds of fitting.

    Parameters
    ----------
    order : dict
        ``data``, ``data_dir``, ``method``, ``k``, ``threads``, ``seed``.
    """
    return run_separately(
        _prepare, order, threads=order["threads"], limit=limit, expected=EXPECTED_PCA_ERRORS
    )


def _prepare(order: dict[str, Any]) -> Callable[[], None]:
    """Load the method and the rows."""
    method = next(one for one in METHODS if one.name == order["method"])
    threads, seed = order["threads"], order["seed"]
    rows = load(parse(order["data"]), Path(order["data_dir"]), seed)
    fit = method.load()
    with contextlib.suppress(*EXPECTED_PCA_ERRORS):
        fit(PcaTask(_small_rows(rows), 3, threads, seed))
    set_threads(threads)  # the small fit may have loaded another library

    def run() -> None:
        fit(PcaTask(rows, order["k"], threads, seed))

    return run


def _small_rows(rows: Any) -> Any:
    """Return a small table of the same kind."""
    wide = rows.shape[0] < rows.shape[1]
    small = np.random.default_rng(0).standard_normal((30, 60) if wide else (60, 30))
    small = small.astype(rows.dtype)
    return scipy.sparse.csr_matrix(small) if scipy.sparse.issparse(rows) else small
