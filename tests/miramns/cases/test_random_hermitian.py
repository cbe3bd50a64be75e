"""Five hundred random symmetric problems, each against LAPACK: no eigenvalue may be missed.

Sizes from 5 to 60, with planted multiplicities up to 5, clusters, zeros, and both signs. What is
asked for is drawn as well. Every draw depends on its number alone.
"""

from __future__ import annotations

import numpy as np
import pytest

PROBLEMS = 500
BATCH = 50


def random_problem(number: int) -> tuple[np.ndarray, int, str]:
    """Matrix, number of pairs, and which, of problem `number`."""
    rng = np.random.default_rng([20, number])
    n = int(rng.integers(5, 61))
    values = rng.choice([rng.standard_normal(n), rng.uniform(0, 1, n) ** 3, rng.exponential(1, n)])
    position = 0
    while position < n and rng.random() < 0.7:
        size = int(rng.integers(2, 6))
        group = slice(position, position + size)
        spread = rng.choice([0.0, 0.0, 1e-12, 1e-4])
        width = len(values[group])
        values[group] = rng.choice([0.0, rng.normal(0, 2)]) + spread * rng.standard_normal(width)
        position += size + int(rng.integers(0, 4))
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    M = np.diag(values) if rng.random() < 0.25 else (Q * values) @ Q.T
    k = int(rng.integers(1, n + 1)) if rng.random() < 0.3 else int(rng.integers(1, min(n, 8) + 1))
    return (M + M.T) / 2, k, str(rng.choice(["LM", "LA", "SA", "LR", "SR"]))


def failures(numbers, solved, check_hermitian, **options) -> list[str]:
    """Problems whose answer breaks the contract, each with the first line of why."""
    broken = []
    for number in numbers:
        M, k, which = random_problem(number)
        result, X = solved(M, k, which=which, hermitian=True, **options)
        try:
            check_hermitian(M, result, X, k, which)
        except AssertionError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            broken.append(f"{number} (n={len(M)}, k={k}, {which}): {'; '.join(lines[:3])}")
    return broken


@pytest.mark.parametrize("first", range(0, PROBLEMS, BATCH))
def test_nothing_is_missed(solved, check_hermitian, first):
    broken = failures(range(first, first + BATCH), solved, check_hermitian)
    assert not broken, f"{len(broken)} of {BATCH}:\n" + "\n".join(broken)


@pytest.mark.mpi
@pytest.mark.parametrize("first", [1000, 1020])
def test_nothing_is_missed_on_ranks(solved, check_hermitian, first):
    broken = failures(range(first, first + 20), solved, check_hermitian)
    assert not broken, f"{len(broken)} of 20:\n" + "\n".join(broken)


@pytest.mark.mpi
def test_nothing_is_missed_with_restarts(solved, check_hermitian):
    """The same with a subspace that is as small as it may be."""
    broken = []
    for number in range(1100, 1120):
        M, k, which = random_problem(number)
        ncv = min(2 * k + 4, len(M))
        result, X = solved(M, k, which=which, hermitian=True, ncv=ncv, max_it=3000)
        try:
            check_hermitian(M, result, X, k, which)
        except AssertionError as error:
            broken.append(f"{number} (n={len(M)}, k={k}, {which}): {str(error)[:200]}")
    assert not broken, f"{len(broken)} of 20:\n" + "\n".join(broken)
