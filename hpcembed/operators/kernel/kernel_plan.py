"""Plan of a kernel: cost of each engine for k eigenpairs, and the choice among them.

n rows of d features on p ranks of t threads, k components, blocks of b vectors. An entry of the
kernel costs ``d`` multiply-adds at the rate of a matrix product and one value of a function:

matrix_free
    Every pass computes half of the entries again (each serves two rows) and takes ``n^2/p b``
    multiply-adds; on several ranks all rows are broadcast once per pass.
assembled
    Computes the entries once, keeps ``n^2/p`` of them, and reads and multiplies them every pass.
lapack
    Computes the entries once, then solves the dense problem on one rank, ``4/3 n^3 + 2 n^2 k``.

``3.4 k/b + 6.3`` passes find k components: measured with rbf on 4,000 images for k = 50 and widths
16 to 128, gamma 0.02, to 1e-6 of the largest eigenvalue. As each pass computes the kernel again,
blocks are wider than those of covariances: of the widths that fit, b takes the least predicted
time. In single precision one matrix-free pass in double precision follows, for the certificate.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcembed.operators.cost import (
    SINGLE_TOLERANCE,
    BlockRule,
    EngineCost,
    EnginePlan,
    Machine,
    Rates,
    Shape,
    choose_engine,
    expected_products,
)
from hpcembed.operators.kernel.kernel_functions import panel_rows, tile_rows

__all__ = ["KERNEL_BLOCKS", "KERNEL_ENGINES", "plan_kernel"]

KERNEL_ENGINES = ("matrix_free", "assembled", "lapack")
KERNEL_BLOCKS = BlockRule(3.4, 6.3, factor=1, spare=2)

#: Candidate widths of blocks.
_WIDTHS = (4, 8, 16, 24, 32, 48, 64, 96, 128)


def plan_kernel(
    shape: Shape,
    k: int,
    machine: Machine,
    *,
    tol: float = 1e-10,
    single_vector: bool = False,
    no_lapack: bool = False,
    engine: str = "auto",
) -> EnginePlan:
    """Choose the engine for k eigenpairs of the kernel of the rows.

    The same arguments on all ranks give the same choice.

    Parameters
    ----------
    tol : float
        Relative to the largest eigenvalue.
    single_vector : bool
        Products with one vector at a time, in double precision, for any solver.
    no_lapack : bool
        Whether an iterative solver is requested.
    engine : {"auto", "matrix_free", "assembled", "lapack"}

    Raises
    ------
    MemoryLimitError
        If the requested engine does not fit, or none does.
    """
    single = tol >= SINGLE_TOLERANCE and not single_vector
    model = _KernelCost(shape, k, machine, single, single_vector)
    costs = [model.block("assembled"), model.block("matrix_free")]
    if engine == "lapack" or not no_lapack:
        costs.insert(0, model.lapack())
    return choose_engine(
        costs,
        machine,
        engine=engine,
        single=("assembled", "matrix_free") if single else (),
        operator="kernel",
        extent=f"{shape.n_train} rows",
        remedy="use more ranks, fewer rows, or an approximation by landmarks",
    )


@dataclass(frozen=True, slots=True)
class _KernelCost:
    """Terms of the model."""

    shape: Shape
    k: int
    machine: Machine
    single: bool
    single_vector: bool

    @property
    def _n(self) -> int:
        return self.shape.n_train

    @property
    def _item(self) -> int:
        return 4 if self.single else 8

    @property
    def _buffers(self) -> int:
        """A panel, a tile of rows with its source, and three tiles of the kernel, in double."""
        d = self.shape.n_features
        tile = tile_rows(d, 8)
        return 8 * d * (panel_rows(d, 8) + 2 * tile) + 24 * tile**2

    def _entries(self, share: float, item: int) -> float:
        """Return the seconds in which all ranks together compute this share of all entries."""
        shape = self.shape
        count = share * self._n**2 / self.machine.ranks
        if shape.n_nonzeros is None:
            multiply = shape.n_features / (self.machine.threads * Rates.product[item])
        else:
            # a row is multiplied with the rows that share a feature with it
            pairs = (shape.n_nonzeros / max(self._n, 1)) ** 2 / max(shape.n_features, 1)
            multiply = pairs / Rates.sparse
        return count * (multiply + 1 / Rates.function[item])

    def _multiplied(self, columns: int, item: int) -> float:
        """Return the seconds of the kernel's product with a block of columns."""
        rate = self.machine.threads * Rates.product[item]
        return self._n**2 / self.machine.ranks * columns / rate

    def _broadcast(self, item: int) -> float:
        """Return the seconds of the broadcast of all rows."""
        shape = self.shape
        stored = self._n * shape.n_features if shape.n_nonzeros is None else 2 * shape.n_nonzeros
        return stored * item / Rates.network if self.machine.ranks > 1 else 0.0

    def _free_pass(self, columns: int, item: int) -> float:
        made = self._entries(0.5, item) + self._broadcast(item)
        return Rates.kernel_pass_seconds + made + self._multiplied(columns, item)

    def _stored_pass(self, columns: int) -> float:
        rate = self.machine.threads * Rates.memory
        read = self._n**2 / self.machine.ranks * self._item / rate
        return Rates.kernel_pass_seconds + max(read, self._multiplied(columns, self._item))

    def block(self, engine: str) -> EngineCost:
        """Return the cost with the fastest width that fits, the narrowest if none does."""
        widths = [width for width in _WIDTHS if width <= max(self._n // 2, 4)]
        if self.single_vector:
            widths = [1]
        costs = [self._with_width(engine, width) for width in widths]
        fitting = [cost for cost in costs if cost.bytes <= self.machine.available_bytes]
        return min(fitting, key=lambda cost: cost.seconds, default=costs[0])

    def _with_width(self, engine: str, width: int) -> EngineCost:
        k, n, ranks = self.k, self._n, self.machine.ranks
        share = -(-n // ranks)
        passes = KERNEL_BLOCKS.passes(k, width)
        columns = KERNEL_BLOCKS.sizes(k, width, n)[-1] + 2 * width
        if self.single_vector:
            passes, columns = expected_products(k), 2 * k + 40
        rate = self.machine.threads * Rates.product[8]
        seconds = 4 * share * (passes * width) ** 2 / rate
        needed = 8 * columns * share + self._buffers
        needed += 8 * 4 * max(width, k) * (n if ranks > 1 else share)
        if engine == "assembled":
            alone = 0.5 if ranks == 1 else 1.0
            seconds += self._entries(alone, self._item) + self._broadcast(self._item)
            seconds += passes * self._stored_pass(width)
            needed += self._item * share * n
        else:
            seconds += passes * self._free_pass(width, self._item)
        if self.single:
            seconds += self._free_pass(k, 8)
        return EngineCost(engine, seconds, needed, width)

    def lapack(self) -> EngineCost:
        n, k = self._n, self.k
        seconds = self._entries(1.0, 8) + self._broadcast(8)
        seconds += (4 / 3 * n**3 + 2 * n**2 * k) / Rates.lapack
        return EngineCost("lapack", seconds, 24 * n**2 + 8 * n * k + self._buffers)
