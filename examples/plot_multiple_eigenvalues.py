"""
Multiple eigenvalues
====================

The Laplacian of a square has double eigenvalues. A Krylov space of one start vector contains one
copy of each, so a solver may return a wrong set of pairs with small residuals. MIRAMns searches for
the missing copies.
"""

import matplotlib.pyplot as plt
import numpy as np
from petsc4py import PETSc
from scipy.sparse import diags, identity, kron

import miramns

side, k = 60, 6
line = diags([np.full(side, 2.0), np.full(side - 1, -1.0), np.full(side - 1, -1.0)], [0, 1, -1])
rows = (kron(line, identity(side)) + kron(identity(side), line)).tocsr()
A = PETSc.Mat().createAIJ(
    rows.shape, csr=(rows.indptr, rows.indices, rows.data), comm=PETSc.COMM_SELF
)

# %%
# The eigenvalues of the square are sums of those of a line.

of_line = 2 - 2 * np.cos(np.pi * np.arange(1, side + 1) / (side + 1))
right = np.sort((of_line[:, None] + of_line).ravel())[::-1][:k]
found = {
    "with the search": miramns.solve(A, k, hermitian=True),
    "without": miramns.solve(
        A, k, hermitian=True, options=miramns.Options(multiplicity_check="never")
    ),
}
for name, result in found.items():
    error = np.abs(result.eigenvalues.real - right).max()
    print(
        f"{name:15}: {result.n_matvec} products, largest residual "
        f"{result.residual_norms.max():.0e}, largest error {error:.0e}, "
        f"search completed: {result.multiplicity_checked}"
    )

# %%
# Every pair without the search has a small residual too. A residual does not show that a pair is
# missing; ``multiplicity_checked`` does.

figure, axis = plt.subplots(figsize=(6, 3.5))
axis.plot(range(1, k + 1), right, "o", markersize=11, fillstyle="none", label="exact")
for (name, result), mark in zip(found.items(), ("x", "+"), strict=True):
    axis.plot(range(1, k + 1), result.eigenvalues.real, mark, markersize=9, label=name)
axis.set(xlabel="position", ylabel="eigenvalue")
axis.legend()
figure.tight_layout()
plt.show()
