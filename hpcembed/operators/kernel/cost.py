"""Which way to the eigenpairs of a kernel is taken: a written cost model.

n rows of d features on p ranks of t threads, k components, blocks of b vectors. An entry of the
kernel costs ``d`` multiply-adds at the rate of a matrix product and one function of a number:

matrix_free
    Every pass makes half of the entries anew (each serves two rows) and ``n^2/p b`` multiply-adds;
    on several ranks all rows travel once a pass.
assembled
    Makes the entries once, keeps ``n^2/p`` of them, and reads and multiplies them every pass.
lapack
    Entries made once, then the dense problem solved on one rank, ``4/3 n^3 + 2 n^2 k``.

``3.4 k/b + 6.3`` passes find k components: measured with rbf on 4,000 images for k = 50 and widths
16 to 128, gamma 0.02, to 1e-6 of the largest eigenvalue. As each pass costs the kernel
anew, blocks are wider than those of covariances: b takes the least predicted time among the widths
that fit. In single precision one matrix-free pass in double follows, which certifies.

Rates are those of :mod:`hpcembed.operators.cost`: constants, so that a job repeats its choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from hpcembed.operators.cost import SINGLE_TOLERANCE, expected_products
from hpcembed.operators.kernel.tiles import panel_rows, tile_rows
from hpcembed.runtime.errors import MemoryLimitError
from hpcembed.runtime.memory import format_bytes

__all__ = [
    "FUNCTION_RATE",
    "PRODUCT_RATE",
    "KernelCost",
    "KernelEngine",
    "KernelPlan",
    "kernel_sizes",
    "plan_kernel",
]

KernelEngine = Literal["matrix_free", "assembled", "lapack"]

#: Multiply-adds per second of one thread in a matrix product; functions of numbers (exp) per
#: second, of one rank; products of sparse rows with sparse rows per second.
PRODUCT_RATE = {4: 3.5e10, 8: 2.2e10}
FUNCTION_RATE = {4: 1.2e9, 8: 3.0e8}
_SPARSE_RATE = 2.5e8
#: Bytes per second: of one thread from memory, of a network.
_MEMORY_RATE = 6.0e9
_NETWORK_RATE = 2.0e9
#: Multiply-adds per second of LAPACK's eigensolver, which is bound by memory.
_LAPACK_RATE = 4.0e9
#: Seconds that a pass takes on the smallest data.
_STEP_SECONDS = 1e-3

#: Widths of blocks that are looked at.
_WIDTHS = (4, 8, 16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True, slots=True)
class KernelCost:
    """What an engine would take on one rank: predicted seconds, bytes beyond the data, width."""

    kind: KernelEngine
    seconds: float
    bytes: int
    width: int


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """The engine chosen, beside the others.

    Attributes
    ----------
    kind : {"matrix_free", "assembled", "lapack"}
    single : bool
        Whether tiles are made in single precision, and certified in double.
    reason : str
    costs : tuple of KernelCost
    """

    kind: KernelEngine
    single: bool
    reason: str
    costs: tuple[KernelCost, ...]

    @property
    def cost(self) -> KernelCost:
        """Of the chosen engine."""
        return next(cost for cost in self.costs if cost.kind == self.kind)

    @property
    def bytes(self) -> int:
        """Memory on one rank, beyond the data."""
        return self.cost.bytes

    @property
    def width(self) -> int:
        """Vectors in a block."""
        return self.cost.width

    def describe(self) -> str:
        """One line for the terminal."""
        others = ", ".join(
            f"{cost.kind.replace('_', '-')} {cost.seconds:.2g} s and {format_bytes(cost.bytes)}"
            for cost in self.costs
        )
        tiles = "single precision, certified in double" if self.single else "double precision"
        return (
            f"kernel {self.kind.replace('_', '-')} ({self.reason}), {tiles}; "
            f"predicted per rank: {others}"
        )


def expected_kernel_passes(k: int, width: int) -> int:
    """Passes with blocks of `width` vectors for k components, roughly."""
    return math.ceil(3.4 * k / width + 6.3)


def kernel_sizes(k: int, width: int, n_rows: int) -> tuple[int, ...]:
    """Nested sizes: whole blocks; a restart where two passes more than expected do not do."""
    most = max((expected_kernel_passes(k, width) + 2) * width, k + 4 * width)
    first = -(-(k + 1) // width) * width
    sizes = range(first, max(most, first) + 1, width)
    return tuple(sorted({min(size, n_rows) for size in sizes}))


def plan_kernel(
    n_rows: int,
    n_features: int,
    k: int,
    *,
    ranks: int,
    threads: int,
    available_bytes: int,
    n_nonzeros: int | None = None,
    tol: float = 1e-10,
    single_vector: bool = False,
    no_lapack: bool = False,
    kind: Literal["auto"] | KernelEngine = "auto",
) -> KernelPlan:
    """Choose how k eigenpairs of the kernel of the rows are found.

    Not collective; the same arguments on all ranks give the same choice.

    Parameters
    ----------
    available_bytes : int
        Memory that one rank may still take.
    n_nonzeros : int, optional
        For sparse rows.
    tol : float
        Relative to the largest eigenvalue.
    single_vector : bool
        Products with one vector at a time, in double, for any solver.
    no_lapack : bool
        Whether an iterative solver was asked for.

    Raises
    ------
    MemoryLimitError
        When the engine asked for does not fit, or none does.
    """
    single = tol >= SINGLE_TOLERANCE and not single_vector
    shape = _Shape(n_rows, n_features, k, ranks, threads, n_nonzeros, single, single_vector)
    costs = (
        *(() if no_lapack and kind != "lapack" else (shape.lapack(),)),
        shape.block("assembled", available_bytes),
        shape.block("matrix_free", available_bytes),
    )
    asked = costs if kind == "auto" else tuple(cost for cost in costs if cost.kind == kind)
    fitting = [cost for cost in asked if cost.bytes <= available_bytes]
    if not fitting:
        raise MemoryLimitError(_refusal(asked, costs, n_rows, available_bytes))
    chosen = min(fitting, key=lambda cost: cost.seconds)
    fastest = min(costs, key=lambda cost: cost.seconds)
    reason = "fastest" if chosen is fastest else f"fastest that fits: {fastest.kind} does not"
    single = single and chosen.kind != "lapack"
    return KernelPlan(chosen.kind, single, reason if kind == "auto" else "as asked", costs)


def _refusal(
    asked: tuple[KernelCost, ...],
    costs: tuple[KernelCost, ...],
    n_rows: int,
    available_bytes: int,
) -> str:
    least = min(asked, key=lambda cost: cost.bytes)
    others = [cost for cost in costs if cost.bytes <= available_bytes]
    hint = "use more ranks, fewer rows, or an approximation by landmarks"
    if others:
        hint = f"eigen_solver = {others[-1].kind} would fit"
    return (
        f"the {least.kind.replace('_', '-')} kernel of {n_rows} rows needs "
        f"{format_bytes(least.bytes)} per rank, {format_bytes(available_bytes)} are available: "
        f"{hint}"
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    """The terms of the model."""

    n: int
    d: int
    k: int
    ranks: int
    threads: int
    nonzeros: int | None
    single: bool
    one_by_one: bool

    @property
    def _item(self) -> int:
        return 4 if self.single else 8

    @property
    def _buffers(self) -> int:
        """A panel, a tile of rows with its source, and three tiles of the kernel, in double."""
        tile = tile_rows(self.d, 8)
        return 8 * self.d * (panel_rows(self.d, 8) + 2 * tile) + 24 * tile**2

    def _entries(self, share: float, item: int) -> float:
        """Seconds in which this part of all entries is made, by all ranks together."""
        count = share * self.n**2 / self.ranks
        if self.nonzeros is None:
            multiply = self.d / (self.threads * PRODUCT_RATE[item])
        else:
            # a row meets the other rows that share a feature with it
            multiply = (self.nonzeros / max(self.n, 1)) ** 2 / max(self.d, 1) / _SPARSE_RATE
        return count * (multiply + 1 / FUNCTION_RATE[item])

    def _multiplied(self, columns: int, item: int) -> float:
        """Seconds of the kernel's product with so many columns."""
        return self.n**2 / self.ranks * columns / (self.threads * PRODUCT_RATE[item])

    def _travel(self, item: int) -> float:
        """Seconds in which all rows reach all ranks."""
        stored = 2 * self.nonzeros if self.nonzeros is not None else self.n * self.d
        return stored * item / _NETWORK_RATE if self.ranks > 1 else 0.0

    def _free_pass(self, columns: int, item: int) -> float:
        made = self._entries(0.5, item) + self._travel(item)
        return _STEP_SECONDS + made + self._multiplied(columns, item)

    def _stored_pass(self, columns: int) -> float:
        read = self.n**2 / self.ranks * self._item / (self.threads * _MEMORY_RATE)
        return _STEP_SECONDS + max(read, self._multiplied(columns, self._item))

    def block(self, kind: KernelEngine, available_bytes: int) -> KernelCost:
        """The width of least time among those that fit; the narrowest where none does."""
        widths = [width for width in _WIDTHS if width <= max(self.n // 2, 4)]
        found = [self._with_width(kind, width) for width in ([1] if self.one_by_one else widths)]
        fitting = [cost for cost in found if cost.bytes <= available_bytes]
        return min(fitting, key=lambda cost: cost.seconds) if fitting else found[0]

    def _with_width(self, kind: KernelEngine, width: int) -> KernelCost:
        share = -(-self.n // self.ranks)
        passes = expected_kernel_passes(self.k, width)
        columns = kernel_sizes(self.k, width, self.n)[-1] + 2 * width
        if self.one_by_one:
            passes, columns = expected_products(self.k), 2 * self.k + 40
        seconds = 4 * share * (passes * width) ** 2 / (self.threads * PRODUCT_RATE[8])
        needed = 8 * columns * share + self._buffers
        needed += 8 * 4 * max(width, self.k) * (self.n if self.ranks > 1 else share)
        if kind == "assembled":
            alone = 0.5 if self.ranks == 1 else 1.0
            seconds += self._entries(alone, self._item) + self._travel(self._item)
            seconds += passes * self._stored_pass(width)
            needed += self._item * share * self.n
        else:
            seconds += passes * self._free_pass(width, self._item)
        if self.single:
            seconds += self._free_pass(self.k, 8)
        return KernelCost(kind, seconds, needed, width)

    def lapack(self) -> KernelCost:
        seconds = self._entries(1.0, 8) + self._travel(8)
        seconds += (4 / 3 * self.n**3 + 2 * self.n**2 * self.k) / _LAPACK_RATE
        return KernelCost(
            "lapack", seconds, 24 * self.n**2 + 8 * self.n * self.k + self._buffers, 1
        )
