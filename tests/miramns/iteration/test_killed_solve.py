"""A solve that is killed at any instant, again and again, ends with the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

SOLVE = """
import hashlib, json, sys, time
import numpy as np
import miramns
from petsc4py import PETSc

folder, orthogonalization = sys.argv[1:]

class Slow:
    def mult(self, mat, x, y):
        time.sleep(0.004)
        y.setArray(np.sqrt(np.arange(1.0, 401)) * x.getArray(readonly=1))

A = PETSc.Mat().createPython((400, 400), Slow(), comm=PETSc.COMM_SELF)
A.setUp()
result = miramns.solve(
    A, 4, hermitian=True, ncv=30, checkpoint=folder, checkpoint_every=0,
    monitor=lambda record: print(record.n_matvec, flush=True),
    options=miramns.Options(orthogonalization=orthogonalization),
)
digest = hashlib.sha256(result.eigenvectors.tobytes() + result.eigenvalues.tobytes()).hexdigest()
print(json.dumps([digest, result.n_matvec, result.n_restarts, len(result.history)]))
"""


def started(folder, orthogonalization):
    return subprocess.Popen(
        [sys.executable, "-c", SOLVE, str(folder), orthogonalization],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def outcome(lines):
    return next((json.loads(line) for line in lines if line.startswith("[")), None)


@pytest.mark.slow
@pytest.mark.parametrize("orthogonalization", ["full", "partial"])
def test_kills(tmp_path, orthogonalization):
    draw = random.Random(1)
    whole = outcome(started(tmp_path / "whole", orthogonalization).communicate()[0].splitlines())
    assert whole[2] > 1
    n_kills, products = 0, []
    while True:
        solve = started(tmp_path / "parts", orthogonalization)
        lines = [solve.stdout.readline()]
        products.append(json.loads(lines[0]))  # it iterates
        for _ in range(draw.randint(2, 7)):  # of some 30
            lines.append(solve.stdout.readline())
        if outcome(lines) is None:
            time.sleep(0.02 * draw.random())
            os.kill(solve.pid, signal.SIGKILL)
        found = outcome(lines + solve.communicate()[0].splitlines())
        if found is not None:
            break
        n_kills += 1
        assert n_kills < 50
    assert n_kills > 1
    assert products == sorted(products)  # it does not begin anew
    assert products[-1] > products[0]
    assert found == whole
