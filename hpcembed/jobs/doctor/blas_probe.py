"""Measure the products of numpy and SciPy on one thread, and print the BLAS of each as JSON.

Usage: ``OPENBLAS_NUM_THREADS=1 python -m hpcembed.jobs.doctor.blas_probe``. The rate is in
operations per second of processor time, so that other processes on the machine do not lower it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

__all__ = ["product_rate"]

_SIZE = 512
#: Seconds of products, after a first one that is not counted.
_SECONDS = 0.4


def product_rate(multiply: Callable[[Any, Any], Any], seconds: float = _SECONDS) -> float:
    """Return the largest number of operations per second of processor time in a product.

    Parameters
    ----------
    multiply : callable
        Product of two matrices of doubles.
    seconds : float
        Duration of the measurement; three products are made at least.
    """
    draw = np.random.default_rng(0)
    a, b = draw.random((2, _SIZE, _SIZE))
    multiply(a, b)
    best, end, repetitions = 0.0, time.perf_counter() + seconds, 0
    while repetitions < 3 or time.perf_counter() < end:
        began = time.process_time()
        multiply(a, b)
        spent = time.process_time() - began
        best = max(best, 2.0 * _SIZE**3 / max(spent, 1e-9))
        repetitions += 1
    return best


def _loaded() -> dict[str, dict[str, Any]]:
    """Return the BLAS libraries of this process by their paths; none without threadpoolctl."""
    if find_spec("threadpoolctl") is None:
        return {}
    from threadpoolctl import threadpool_info

    return {one["filepath"]: one for one in threadpool_info() if one["user_api"] == "blas"}


def _main() -> None:
    of_numpy = _loaded()
    facts = [{"user": "numpy", "rate": product_rate(np.matmul), "libraries": [*of_numpy.values()]}]
    if find_spec("scipy") is not None:
        from scipy.linalg.blas import dgemm

        of_scipy = [one for path, one in _loaded().items() if path not in of_numpy]
        if of_scipy:

            def multiply(a: Any, b: Any) -> Any:
                return dgemm(1.0, a.T, b.T)

            facts.append({"user": "scipy", "rate": product_rate(multiply), "libraries": of_scipy})
    knows = find_spec("threadpoolctl") is not None
    print(json.dumps({"facts": facts, "recognises": knows}), flush=True)


if __name__ == "__main__":
    _main()
