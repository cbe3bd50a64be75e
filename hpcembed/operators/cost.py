"""Which engine finds the components: a written cost model, so that the choice can be repeated.

n rows of d features on p ranks of t threads, k components. Work of one rank in multiply-adds and
bytes, times of the slowest part:

assembled
    ``n/p d^2 / 2`` at the rate of a symmetric update, one reduction of ``d (d + 1) / 2`` numbers,
    then ``8 d^2 / p`` bytes read for each of some ``3 k + 40`` products.
matrix_free
    One pass over the rows for each product: bound by reading and converting them.
block
    ``2.6 k/b + 4`` passes with b columns, ``2 n/p d b`` each at the rate of a matrix product, but
    not faster than the rows can be read; then ``4 d/p m^2`` to orthogonalise m columns.
gram
    The same on the side of the rows, where columns have n entries instead of d; the rows are read
    twice a pass.

In single precision every engine ends with one pass in double for the certificate, with k columns.
A tolerance below what single precision reaches is charged a pass in double per digit.

The rates are constants, not measurements of the moment: the same job makes the same choice every
time. They were measured on two cores of an EPYC 9004 with OpenBLAS 0.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from hpcembed.runtime.errors import ConfigError, MemoryLimitError
from hpcembed.runtime.memory import format_bytes

__all__ = [
    "SINGLE_TOLERANCE",
    "EngineCost",
    "EngineKind",
    "EnginePlan",
    "block_sizes",
    "block_width",
    "expected_products",
    "plan_engine",
]

EngineKind = Literal["assembled", "matrix_free", "block", "gram"]

#: Least tolerance, relative to the largest eigenvalue, that passes in single precision reach.
SINGLE_TOLERANCE = 2e-7

#: Multiply-adds per second of one thread: symmetric update (half the square counted), product.
_UPDATE_RATE = {4: 5.0e10, 8: 2.1e10}
_PRODUCT_RATE = {4: 3.5e10, 8: 2.2e10}
#: Entries per second of one thread: converted; in a pass with one vector; sparse, per column.
_CONVERT_RATE = 1.5e9
_PASS_RATE = 3.0e8
_SPARSE_RATE = 2.5e8
_SPARSE_BLOCK_RATE = 8.0e8
#: Bytes per second: of one thread from memory, of one rank reading a matrix or a file, of a
#: reduction.
_MEMORY_RATE = 6.0e9
_READ_RATE = 8.0e9
_FILE_RATE = 1.0e9
_NETWORK_RATE = 2.0e9

#: Seconds that a pass takes on the smallest data.
_STEP_SECONDS = 5e-4

_BLOCK_BYTES = 6 * 2**20
_LEAST_ROWS = 256
_BUFFERS = 2 * _BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class EngineCost:
    """What an engine would take on one rank: predicted seconds, bytes beyond the data."""

    kind: EngineKind
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """The engine chosen, beside the others.

    Attributes
    ----------
    kind : {"assembled", "matrix_free", "block", "gram"}
    single : bool
        Whether passes are made in single precision.
    reason : str
        Why, in words.
    costs : tuple of EngineCost
        Of every engine that suits the data.
    operator : str
        Whose eigenvectors are found: "covariance", or "X'X" where rows are not centred.
    """

    kind: EngineKind
    single: bool
    reason: str
    costs: tuple[EngineCost, ...]
    operator: str = "covariance"

    @property
    def cost(self) -> EngineCost:
        """Of the chosen engine."""
        return next(cost for cost in self.costs if cost.kind == self.kind)

    @property
    def name(self) -> str:
        """The operator and how it is held: "covariance, matrix-free"."""
        return f"{self.operator}, {_name(self.kind)}"

    @property
    def bytes(self) -> int:
        """Memory on one rank, beyond the data, of the chosen engine."""
        return self.cost.bytes

    def describe(self) -> str:
        """One line for the terminal."""
        others = ", ".join(
            f"{_name(cost.kind)} {cost.seconds:.2g} s and {format_bytes(cost.bytes)}"
            for cost in self.costs
        )
        passes = "single precision, certified in double" if self.single else "double precision"
        return (
            f"{self.operator} {_name(self.kind)} ({self.reason}), {passes}; "
            f"predicted per rank: {others}"
        )


def _name(kind: str) -> str:
    return kind.replace("_", "-")


def expected_products(k: int) -> int:
    """Products that finding and certifying k pairs of a decaying spectrum takes, roughly."""
    return 3 * k + 40


def block_width(k: int, dimension: int) -> int:
    """Columns of a block: about half of the components, in multiples that fill vector registers."""
    width = 8 if k <= 8 else 16 if k <= 32 else 8 * -(-k // 16)
    return max(1, min(width, 64, dimension))


def expected_passes(k: int, width: int) -> int:
    """Passes with blocks of `width` columns for k pairs of a decaying spectrum, roughly."""
    return math.ceil(2.6 * k / width) + 4


def block_sizes(k: int, width: int, dimension: int) -> tuple[int, ...]:
    """Nested sizes of the block engine: whole blocks, a restart at the last."""
    most = max(2 * expected_passes(k, width) * width, k + 4 * width)
    first = -(-(k + 1) // width) * width
    sizes = range(first, max(most, first) + 1, width)
    return tuple(sorted({min(size, dimension) for size in sizes}))


def plan_engine(
    n_rows: int,
    n_features: int,
    k: int,
    *,
    ranks: int,
    threads: int,
    available_bytes: int,
    n_nonzeros: int | None = None,
    item_bytes: int = 8,
    tol: float = 1e-10,
    n_reference: int = 0,
    single_vector: bool = False,
    streamed: bool = False,
    kind: Literal["auto"] | EngineKind = "auto",
    operator: str = "covariance",
) -> EnginePlan:
    """Choose the engine for k components.

    Not collective; the same arguments on all ranks give the same choice.

    Parameters
    ----------
    available_bytes : int
        Memory that one rank may still take.
    n_nonzeros : int, optional
        For sparse rows.
    item_bytes : int
        Of a number as it is held.
    tol : float
        Relative to the largest eigenvalue.
    n_reference : int
        Further products with one vector, of a reference solver.
    single_vector : bool
        Only engines on which any eigensolver runs, in double.
    streamed : bool
        Whether every pass reads the rows from files.
    operator : str
        What it is called in messages.

    Raises
    ------
    MemoryLimitError
        When the engine asked for does not fit, or none does.
    """
    shape = _Shape(
        -(-n_rows // ranks), n_rows, n_features, k, ranks, threads, n_nonzeros, item_bytes,
        0.0 if single_vector else tol, streamed,
    )  # fmt: skip
    costs = [shape.assembled(n_reference), shape.matrix_free(n_reference)]
    if not single_vector:
        costs.append(shape.block(n_reference))
    if not single_vector and n_rows < n_features and n_nonzeros is None and 2 * k < n_rows:
        costs.append(shape.gram(n_reference))
    fitting = [cost for cost in costs if cost.bytes <= available_bytes]
    if kind == "auto":
        if not fitting:
            least = min(costs, key=lambda cost: cost.bytes)
            raise MemoryLimitError(
                _refusal(operator, least, n_features, available_bytes, "use more ranks")
            )
        chosen = min(fitting, key=lambda cost: cost.seconds)
        fastest = min(costs, key=lambda cost: cost.seconds)
        fits = chosen is fastest
        reason = "fastest" if fits else f"fastest that fits: {_name(fastest.kind)} does not"
        return EnginePlan(chosen.kind, shape.single(chosen.kind), reason, tuple(costs), operator)
    asked = next((cost for cost in costs if cost.kind == kind), None)
    if asked is None and single_vector:
        raise ConfigError(f"the {kind} engine has its own solver: leave solver and ncv as they are")
    if asked is None:
        if n_nonzeros is not None or k >= n_rows:
            raise ConfigError("the gram engine is for dense rows, and fewer components than rows")
        asked = shape.gram(n_reference)
        costs.append(asked)
    if asked.bytes > available_bytes:
        other = min(fitting, key=lambda cost: cost.seconds, default=None)
        hint = f"the {other.kind} engine would fit" if other else "use more ranks"
        raise MemoryLimitError(_refusal(operator, asked, n_features, available_bytes, hint))
    return EnginePlan(asked.kind, shape.single(asked.kind), "as asked", tuple(costs), operator)


def _refusal(operator: str, cost: EngineCost, d: int, available_bytes: int, hint: str) -> str:
    return (
        f"the {_name(cost.kind)} {operator} of {d} features needs {format_bytes(cost.bytes)} per "
        f"rank, {format_bytes(available_bytes)} are available: {hint}"
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    """The terms of the model."""

    rows: int
    n: int
    d: int
    k: int
    ranks: int
    threads: int
    nonzeros: int | None
    item_bytes: int
    tol: float
    streamed: bool

    def single(self, kind: EngineKind) -> bool:
        """Whether an engine makes its passes in single precision."""
        if kind == "matrix_free":
            return False
        return self.tol >= SINGLE_TOLERANCE or kind in ("block", "gram")

    def _pass(self, b: int, item: int) -> float:
        """Seconds of one pass with b columns."""
        if self.nonzeros is not None:
            rate = self.threads * (_SPARSE_BLOCK_RATE if b > 1 else _SPARSE_RATE)
            return _STEP_SECONDS + 2 * self.nonzeros / self.ranks * b / rate
        entries = self.rows * self.d
        multiply = 2 * entries * b / (self.threads * _PRODUCT_RATE[item])
        read = self._reading()
        convert = 0.0 if item == self.item_bytes else entries / (self.threads * _CONVERT_RATE)
        return _STEP_SECONDS + max(multiply, read) + convert

    def _reading(self) -> float:
        """Seconds until the rows have come from memory, or from their files."""
        rate = _FILE_RATE if self.streamed else self.threads * _MEMORY_RATE
        return self.rows * self.d * self.item_bytes / rate

    def _single_vectors(self, count: int) -> float:
        """Seconds of products with one vector, in double."""
        if self.nonzeros is not None:
            return count * self._pass(1, 8)
        multiply = self.rows * self.d / (self.threads * _PASS_RATE)
        return count * (_STEP_SECONDS + max(multiply, self._reading()))

    def _certificate(self) -> float:
        """Seconds of passes in double after those in single precision."""
        digits = max(0.0, math.log10(SINGLE_TOLERANCE / self.tol))
        return (1 + math.ceil(digits)) * self._pass(self.k, 8)

    def assembled(self, n_reference: int) -> EngineCost:
        d, square = self.d, 8 * self.d**2
        single = self.single("assembled")
        item = 4 if single else 8
        seconds = self.rows * d * d / 2 / (self.threads * _UPDATE_RATE[item]) + self._reading()
        seconds += square / _NETWORK_RATE if self.ranks > 1 else 0.0
        products = expected_products(self.k) + n_reference
        seconds += products * square / (self.ranks * _READ_RATE)
        seconds += self._certificate() if single else 0.0
        # the accumulated square, its packed triangle for the reduction, and this rank's rows
        needed = square + (square // 2 + square // self.ranks if self.ranks > 1 else square)
        needed += square // 2 if single else 0
        needed += self._basis(2 * self.k + 40)
        return EngineCost("assembled", seconds, needed)

    def matrix_free(self, n_reference: int) -> EngineCost:
        seconds = self._single_vectors(expected_products(self.k) + n_reference)
        needed = self._basis(2 * self.k + 40) + 8 * 4 * self.d + _BUFFERS
        return EngineCost("matrix_free", seconds, needed)

    def block(self, n_reference: int) -> EngineCost:
        width = block_width(self.k, self.d)
        passes = expected_passes(self.k, width)
        columns = block_sizes(self.k, width, self.d)[-1] + 2 * width
        local = -(-self.d // self.ranks)
        seconds = passes * self._pass(width, 4) + self._certificate()
        seconds += self._orthogonalisation(local, passes * width)
        seconds += self._single_vectors(n_reference)
        widest = max(width, self.k)
        needed = 8 * columns * local + 8 * 4 * widest * self.d + self._buffers()
        return EngineCost("block", seconds, needed)

    def gram(self, n_reference: int) -> EngineCost:
        width = block_width(self.k, self.n)
        passes = expected_passes(self.k, width)
        columns = block_sizes(self.k, width, self.n)[-1] + 2 * width
        seconds = (passes + 2) * self._pass(width, 4) + 2 * self._certificate()
        seconds += self._orthogonalisation(self.rows, passes * width)
        seconds += self._single_vectors(n_reference)
        widest = max(width, self.k)
        needed = 8 * columns * self.rows + 8 * 4 * widest * self.d + self._buffers()
        return EngineCost("gram", seconds, needed)

    def _orthogonalisation(self, length: int, columns: int) -> float:
        return 4 * length * columns**2 / (self.threads * _PRODUCT_RATE[8])

    def _basis(self, columns: int) -> int:
        return 8 * columns * -(-self.d // self.ranks)

    def _buffers(self) -> int:
        return 2 * max(_BLOCK_BYTES, 8 * _LEAST_ROWS * self.d)
