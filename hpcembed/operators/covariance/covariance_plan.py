"""Plan of the covariance: cost of each engine for k components, and the choice among them.

n rows of d features on p ranks of t threads, k components. Work of one rank in multiply-adds and
bytes, times of the slowest part:

assembled
    ``n/p d^2 / 2`` at the rate of a symmetric update, and ``n/p d`` to read and convert the rows;
    one reduction of ``d (d + 1) / 2`` numbers; then LAPACK on one rank for small d or large k, else
    products of the matrix with blocks of vectors, or with some ``3 k + 40`` single ones.
matrix_free
    One pass over the rows for each product: bound by reading and converting them.
block
    ``2.6 k/b + 4`` passes with b columns, ``2 n/p d b`` each at the rate of a compiled pass, but
    not faster than the rows can be read; then ``4 d/p m^2`` to orthogonalise m columns.
gram
    The same on the side of the rows, where columns have n entries instead of d; several ranks read
    the rows twice per pass.

In single precision block and gram end with one pass in double precision for the certificate, with k
columns. A square in single precision ends with a pass of a few random combinations of the
components, and is chosen only where both together take less time than a square in double precision.
The square of short integers is exact and needs no pass. A tolerance below the reach of single
precision adds one pass in double precision per digit.
"""

from __future__ import annotations

import math
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
    suits_lapack,
)
from hpcembed.operators.native.dense_square import LARGEST_SQUARE, square_bytes
from hpcembed.runtime.errors import ConfigError

__all__ = [
    "CERTIFICATE_SAMPLES",
    "COVARIANCE_BLOCKS",
    "COVARIANCE_ENGINES",
    "block_width",
    "plan_covariance",
]

COVARIANCE_ENGINES = ("assembled", "matrix_free", "block", "gram")
COVARIANCE_BLOCKS = BlockRule(2.6, 4.0, factor=2, spare=0)

#: Random combinations of components that certify a square in single precision, and the most
#: components for which their bound is expected to pass.
CERTIFICATE_SAMPLES = 8
MOST_SAMPLED = 128

_BLOCK_BYTES = 6 * 2**20
_LEAST_ROWS = 256
_PASS_ROWS = 144
_KEPT_BYTES = 4 * 2**20


def block_width(k: int, dimension: int) -> int:
    """Return the columns of a block: about k / 2, in multiples that fill vector registers."""
    width = 8 if k <= 8 else 16 if k <= 32 else 8 * -(-k // 16)
    return max(1, min(width, 64, dimension))


def plan_covariance(
    shape: Shape,
    k: int,
    machine: Machine,
    *,
    tol: float = 1e-10,
    n_reference: int = 0,
    single_vector: bool = False,
    engine: str = "auto",
    operator: str = "covariance",
    pass_factor: float = 1.0,
) -> EnginePlan:
    """Choose the engine for k components of rows.

    The same arguments on all ranks give the same choice.

    Parameters
    ----------
    tol : float
        Relative to the largest eigenvalue.
    n_reference : int
        Further products with single vectors, of a reference solver.
    single_vector : bool
        Only engines on which any eigensolver runs, in double precision.
    engine : {"auto", "assembled", "matrix_free", "block", "gram"}
    operator : str
        Name of the operator in messages.
    pass_factor : float
        Passes of an iteration for the spectrum at hand, relative to those for a decaying one.

    Raises
    ------
    MemoryLimitError
        If the requested engine does not fit, or none does.
    ConfigError
        If the requested engine does not suit the data or the solver.
    """
    n = shape.n_train
    tol = 0.0 if single_vector else tol
    model = _CovarianceCost(shape, k, machine, tol, n_reference, pass_factor)
    costs = [model.assembled(), model.matrix_free()]
    if not single_vector:
        costs.append(model.block())
        short = n < shape.n_features and 2 * k < n
        if shape.n_nonzeros is None and (short or (engine == "gram" and k < n)):
            costs.append(model.gram())
    if engine not in ("auto", *(cost.engine for cost in costs)):
        raise ConfigError(
            f"the {engine} engine has its own solver: leave solver and ncv as they are"
            if single_vector
            else "the gram engine is for dense rows, and fewer components than rows"
        )
    return choose_engine(
        costs,
        machine,
        engine=engine,
        single=("block", "gram", *(("assembled",) if model.squares_in_single else ())),
        operator=operator,
        extent=f"{shape.n_features} features",
        remedy="use more ranks",
    )


@dataclass(frozen=True, slots=True)
class _CovarianceCost:
    """Terms of the model.

    ``tol`` is 0 where only single vectors in double precision are wanted. Iterations take
    `factor` times the passes of a decaying spectrum.
    """

    shape: Shape
    k: int
    machine: Machine
    tol: float
    n_reference: int
    factor: float

    def _passes(self, width: int) -> int:
        """Return the expected number of passes with blocks of `width` vectors."""
        return math.ceil(self.factor * COVARIANCE_BLOCKS.passes(self.k, width))

    @property
    def suits_single(self) -> bool:
        """Whether the tolerance is within the reach of single precision."""
        return self.tol >= SINGLE_TOLERANCE

    @property
    def _has_integers(self) -> bool:
        """Whether the square is exact (:mod:`hpcembed.operators.covariance.integer_covariance`)."""
        shape = self.shape
        return shape.item_bytes <= 2 and shape.n_nonzeros is None and not shape.is_streamed

    @property
    def squares_in_single(self) -> bool:
        """Whether a square in single precision, with its certificate, takes less time."""
        if not self.suits_single or self._has_integers:
            return False
        return self._square(4) + self._samples() < self._square(8)

    @property
    def _rows(self) -> int:
        return -(-self.shape.n_train // self.machine.ranks)

    def _gram_pass(self, columns: int, item: int) -> float:
        """Return the seconds of one product with the Gram matrix."""
        if self.machine.ranks > 1 or self.shape.is_streamed:
            # the rows are read twice, and BLAS multiplies
            multiply = 2.0 * self._rows * self.shape.n_features * columns
            multiply /= self.machine.threads * Rates.product[item]
            return Rates.pass_seconds + max(multiply, 2 * self._reading())
        return self._pass(columns, item, length=self._rows)

    def _pass(self, columns: int, item: int, length: int = 0) -> float:
        """Return the seconds of one pass over rows of this length."""
        length = length or self.shape.n_features
        shape, threads = self.shape, self.machine.threads
        if shape.n_nonzeros is not None:
            rate = threads * (Rates.sparse_block[item] if columns > 1 else Rates.sparse)
            return Rates.pass_seconds + 2 * shape.n_nonzeros / self.machine.ranks * columns / rate
        entries = self._rows * shape.n_features
        columns = -(-columns // Rates.pass_columns[item]) * Rates.pass_columns[item]
        multiply = 2 * entries * columns / (threads * Rates.pass_product[item])
        # a block of long rows leaves the cache between both products
        reads = 3 if _PASS_ROWS * length * item > _KEPT_BYTES else 1
        multiply += reads * entries / (threads * Rates.pass_entry[item])
        return Rates.pass_seconds + max(multiply, self._reading())

    def _reading(self) -> float:
        """Return the seconds in which the rows come from memory, or from their files."""
        shape = self.shape
        rate = Rates.file if shape.is_streamed else self.machine.threads * Rates.memory
        return self._rows * shape.n_features * shape.item_bytes / rate

    def _single_vectors(self, count: int) -> float:
        """Return the seconds of products with single vectors, in double precision."""
        if self.shape.n_nonzeros is not None:
            return count * self._pass(1, 8)
        entries = self._rows * self.shape.n_features
        multiply = entries / (self.machine.threads * Rates.vector_pass)
        return count * (Rates.pass_seconds + max(multiply, self._reading()))

    def _certificate(self) -> float:
        """Return the seconds of the passes in double that follow those in single precision."""
        digits = max(0.0, math.log10(SINGLE_TOLERANCE / self.tol))
        return (1 + math.ceil(digits)) * self._pass(self.k, 8)

    def _basis(self, columns: int) -> int:
        return 8 * columns * -(-self.shape.n_features // self.machine.ranks)

    def _square(self, item: int) -> float:
        """Return the seconds of the square of the rows."""
        d, threads = self.shape.n_features, self.machine.threads
        is_compiled = d <= LARGEST_SQUARE and self.shape.n_nonzeros is None
        rate = Rates.square[item] if is_compiled else Rates.update[item]
        multiply = self._rows * d * d / (threads * rate)
        multiply += self._rows * d / (threads * Rates.square_entry[item])
        if self.shape.n_nonzeros is not None:
            # blocks of dense rows are filled and read
            multiply += self._rows * d * 16 / Rates.memory
        return max(multiply, self._reading())

    def _samples(self) -> float:
        """Return the seconds of the pass that certifies a square in single precision."""
        few = self.k <= MOST_SAMPLED
        return self._pass(min(self.k, CERTIFICATE_SAMPLES) if few else self.k, 8)

    def _eigensolver(self) -> float:
        """Return the seconds of the eigenproblem of an assembled matrix."""
        k, d, ranks, threads = (
            self.k,
            self.shape.n_features,
            self.machine.ranks,
            self.machine.threads,
        )
        if self.tol == 0.0:
            return (expected_products(k) + self.n_reference) * 8 * d**2 / (ranks * Rates.read)
        if suits_lapack(d, k):
            seconds = (4 / 3 * d**3 + 2 * d**2 * k) / Rates.lapack
        else:
            width = block_width(k, d)
            columns = self._passes(width) * width
            rate = threads * Rates.product[8]
            longest = min(columns, COVARIANCE_BLOCKS.sizes(k, width, d)[-1])
            seconds = (d**2 + 4 * d * longest) * columns / (ranks * rate)
        return seconds + self.n_reference * 8 * d**2 / (ranks * Rates.read)

    def assembled(self) -> EngineCost:
        d, ranks, threads = self.shape.n_features, self.machine.ranks, self.machine.threads
        square, single, exact = 8 * d**2, self.squares_in_single, self._has_integers
        item = (4 if self.shape.item_bytes == 1 else 8) if exact else 4 if single else 8
        seconds = self._square(item) + self._eigensolver()
        seconds += square / Rates.network if ranks > 1 else 0.0
        seconds += self._samples() if single else 0.0
        # the accumulated square, its packed triangle for the reduction, and this rank's rows
        needed = square + (square // 2 + square // ranks if ranks > 1 else square)
        needed += square if exact else square // 2 if single else 0
        needed += square_bytes(d, threads) if d <= LARGEST_SQUARE else 0
        return EngineCost("assembled", seconds, needed + self._basis(2 * self.k + 40))

    def matrix_free(self) -> EngineCost:
        products = math.ceil(self.factor * expected_products(self.k))
        seconds = self._single_vectors(products + self.n_reference)
        needed = self._basis(2 * self.k + 40) + 8 * 4 * self.shape.n_features + 2 * _BLOCK_BYTES
        return EngineCost("matrix_free", seconds, needed)

    def block(self) -> EngineCost:
        d = self.shape.n_features
        return self._by_blocks("block", d, -(-d // self.machine.ranks))

    def gram(self) -> EngineCost:
        return self._by_blocks("gram", self.shape.n_train, self._rows)

    def _by_blocks(self, engine: str, dimension: int, local: int) -> EngineCost:
        """Return the cost of blocks of columns with `local` entries on each rank."""
        k, d = self.k, self.shape.n_features
        width = block_width(k, dimension)
        passes = self._passes(width)
        columns = COVARIANCE_BLOCKS.sizes(k, width, dimension)[-1] + 2 * width
        if engine == "gram":
            seconds = passes * self._gram_pass(width, 4)
            # components from vectors of the rows, in about half a pass
            seconds += self._gram_pass(k, 4 if self.suits_single else 8) / 2
        else:
            seconds = passes * self._pass(width, 4)
        seconds += self._certificate()
        rate = self.machine.threads * Rates.product[8]
        # a restart shortens the basis
        seconds += 4 * local * passes * width * min(passes * width, columns) / rate
        seconds += self._single_vectors(self.n_reference)
        # of each thread: rows of a block in double, vectors, pending sums and sums
        threads = self.machine.threads
        buffers = max(2 * max(_BLOCK_BYTES, 8 * _LEAST_ROWS * d), threads * 8 * _PASS_ROWS * d)
        buffers += threads * 8 * 3 * max(width, k) * d
        needed = 8 * columns * local + 8 * 2 * max(width, k) * d + buffers
        return EngineCost(engine, seconds, needed, width)
