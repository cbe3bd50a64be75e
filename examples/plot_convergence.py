"""
Nested subspaces of the eigensolver
===================================

MIRAMns tests convergence at several sizes of one growing subspace. A monitor receives a record at
each test, so that the course of the iteration can be drawn.
"""

import matplotlib.pyplot as plt
import numpy as np
from petsc4py import PETSc
from scipy.sparse import diags

import miramns

n = 2000
diagonal = 1 / np.arange(1, n + 1) ** 0.25
rows = diags([diagonal, np.full(n - 1, 0.01), np.full(n - 1, 0.01)], [0, 1, -1], format="csr")
A = PETSc.Mat().createAIJ(
    rows.shape, csr=(rows.indptr, rows.indices, rows.data), comm=PETSc.COMM_SELF
)

# %%
# A small limit of the subspace (``ncv``) makes restarts necessary.

records = []
result = miramns.solve(A, k=5, hermitian=True, ncv=30, monitor=records.append)
print(result.view())

# %%
# Each colour is one cycle between two restarts.

figure, axis = plt.subplots(figsize=(6.5, 3.5))
for restart in sorted({record.restart for record in records}):
    cycle = [record for record in records if record.restart == restart]
    axis.semilogy(
        [record.n_matvec for record in cycle], [record.measure for record in cycle], marker="."
    )
axis.axhline(1e-8, color="black", linestyle="--", label="tolerance")
axis.set(xlabel="products with the operator", ylabel="largest relative residual estimate")
axis.legend()
figure.tight_layout()
plt.show()
