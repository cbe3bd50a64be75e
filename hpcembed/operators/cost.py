"""Cost model: predicted seconds and memory of each engine, and the choice among them.

An engine is how an operator is held and multiplied. The plan of an operator adds up the work of one
rank in multiply-adds and bytes, and divides by the rates of :class:`Rates`. If there are several
engines (:mod:`hpcembed.operators.covariance.covariance_plan`,
:mod:`hpcembed.operators.kernel.kernel_plan`) it takes the fastest that fits the memory. The other
plans (``kernel/feature_plan``, ``graph/graph_plan``, ``cooccurrence/cooccurrence_plan``) have one
engine.

The rates are constants, not measurements of the moment: the same job makes the same choice every
time. They were measured on two cores of an EPYC 9004 with OpenBLAS 0.3 and compiled products
(:mod:`hpcembed.operators.native`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from hpcembed.runtime.machine.memory import check_fits, format_bytes

__all__ = [
    "SINGLE_TOLERANCE",
    "BlockRule",
    "EngineCost",
    "EnginePlan",
    "Machine",
    "Rates",
    "Shape",
    "choose_engine",
    "expected_products",
    "suits_lapack",
]

#: Least tolerance, relative to the largest eigenvalue, that passes in single precision reach.
SINGLE_TOLERANCE = 2e-7


#: Dimension up to which an assembled operator goes to LAPACK, and the share of pairs from which.
_LAPACK_DIMENSION = 1000
_LAPACK_SHARE = 0.2


class Rates:
    """Measured rates, per second and thread unless stated otherwise.

    Attributes
    ----------
    update, product : mapping of int to float
        Multiply-adds of a symmetric update (the whole square counted, of which half is computed)
        and of a matrix product, by bytes per number.
    function : mapping of int to float
        Values of a function such as exp, per rank, by bytes per number.
    square, square_entry : mapping of int to float
        Multiply-adds of the square of rows (counted as for `update`), and entries of the rows read,
        converted and added up for it, by bytes per number of the square.
    pass_product, pass_entry : mapping of int to float
        The same of a pass X'(X V): multiply-adds of both products, and entries read.
    pass_columns : mapping of int to int
        Columns that a pass computes at once: fewer take the same time.
    vector_pass : float
        Entries of dense rows multiplied with a single vector.
    sparse : float
        Stored entries multiplied with a single vector.
    sparse_block : mapping of int to float
        Multiply-adds of a pass over sparse rows with a block of vectors, by bytes per number.
    lapack : float
        Multiply-adds of LAPACK's symmetric eigensolver, which memory limits; per rank.
    memory : float
        Bytes from memory.
    read, file, network : float
        Bytes per rank: of a matrix in memory, of a file, of a reduction or broadcast.
    pass_seconds, kernel_pass_seconds : float
        Seconds that a pass takes on the smallest data.
    """

    update: Mapping[int, float] = MappingProxyType({4: 8.0e10, 8: 4.5e10})
    product: Mapping[int, float] = MappingProxyType({4: 3.5e10, 8: 2.2e10})
    function: Mapping[int, float] = MappingProxyType({4: 1.2e9, 8: 3.0e8})
    square: Mapping[int, float] = MappingProxyType({4: 9.0e10, 8: 5.0e10})
    square_entry: Mapping[int, float] = MappingProxyType({4: 8.5e8, 8: 4.8e8})
    pass_product: Mapping[int, float] = MappingProxyType({4: 4.5e10, 8: 2.5e10})
    pass_entry: Mapping[int, float] = MappingProxyType({4: 2.0e9, 8: 2.0e9})
    pass_columns: Mapping[int, int] = MappingProxyType({4: 16, 8: 8})
    vector_pass = 3.0e8
    sparse = 2.5e8
    sparse_block: Mapping[int, float] = MappingProxyType({4: 4.0e9, 8: 2.5e9})
    lapack = 2.0e10
    memory = 6.0e9
    read = 8.0e9
    file = 1.0e9
    network = 2.0e9
    pass_seconds = 5e-4
    kernel_pass_seconds = 1e-3


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of a data set, before or after it is read.

    Attributes
    ----------
    n_train, n_test, n_features : int
    n_nonzeros : int or None
        Stored entries of sparse training rows; None for dense rows.
    row_bytes : int
        Memory of one row.
    item_bytes : int
        Memory of one number.
    is_streamed : bool
        Whether every pass reads the rows from files.
    n_nodes : int or None
        Nodes of the graph, if rows are nodes; None if it is not known.
    """

    n_train: int
    n_test: int
    n_features: int
    n_nonzeros: int | None
    row_bytes: int
    item_bytes: int = 8
    is_streamed: bool = False
    n_nodes: int | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """Resources of a job: ranks, BLAS threads per rank, bytes that one rank may still take."""

    ranks: int
    threads: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class EngineCost:
    """Predicted cost of one engine on one rank.

    Attributes
    ----------
    engine : str
    seconds : float
    bytes : int
        Memory beyond the data.
    width : int
        Vectors multiplied at once.
    """

    engine: str
    seconds: float
    bytes: int
    width: int = 1

    @property
    def name(self) -> str:
        """Name of the engine in text."""
        return self.engine.replace("_", "-")


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """The chosen engine, and the costs of all engines.

    Attributes
    ----------
    engine : str
    single : bool
        Whether passes are made in single precision.
    reason : str
        Reason of the choice.
    costs : tuple of EngineCost
        Costs of every engine that suits the data.
    operator : str
        The operator: "covariance", "X'X" where rows are not centred, "kernel".
    in_single : tuple of str
        Engines that make their passes in single precision.
    """

    engine: str
    single: bool
    reason: str
    costs: tuple[EngineCost, ...]
    operator: str
    in_single: tuple[str, ...] = ()

    @property
    def cost(self) -> EngineCost:
        """Cost of the chosen engine."""
        return next(cost for cost in self.costs if cost.engine == self.engine)

    @property
    def name(self) -> str:
        """The operator and its engine: "covariance, matrix-free"."""
        return f"{self.operator}, {self.cost.name}"

    @property
    def bytes(self) -> int:
        """Memory of the chosen engine on one rank, beyond the data."""
        return self.cost.bytes

    @property
    def width(self) -> int:
        """Vectors that the chosen engine multiplies at once."""
        return self.cost.width

    def instead(self, engine: str, machine: Machine) -> EnginePlan | None:
        """Return the plan with another engine; None if it is the same, or does not fit."""
        other = next((cost for cost in self.costs if cost.engine == engine), self.cost)
        if other.engine == self.engine or other.bytes > machine.available_bytes:
            return None
        return replace(self, engine=engine, single=engine in self.in_single)

    def describe(self) -> str:
        """Return the plan as one line of text."""
        costs = ", ".join(
            f"{cost.name} {cost.seconds:.2g} s and {format_bytes(cost.bytes)}"
            for cost in self.costs
        )
        passes = "single precision, certified in double" if self.single else "double precision"
        return (
            f"{self.operator} {self.cost.name} ({self.reason}), {passes}; "
            f"predicted per rank: {costs}"
        )


@dataclass(frozen=True, slots=True)
class BlockRule:
    """Passes over an operator that block Krylov needs, as measured, and the nested sizes.

    Attributes
    ----------
    per_pair, constant : float
        With blocks of b vectors, k pairs of a decaying spectrum take about
        ``per_pair k / b + constant`` passes.
    factor, spare : int
        A restart follows `factor` times the expected number of passes and `spare` more.
    """

    per_pair: float
    constant: float
    factor: int
    spare: int

    def passes(self, k: int, width: int) -> int:
        """Return the expected number of passes with blocks of `width` vectors."""
        return math.ceil(self.per_pair * k / width + self.constant)

    def sizes(self, k: int, width: int, dimension: int) -> tuple[int, ...]:
        """Return the nested sizes: whole blocks, a restart at the last."""
        passes = self.factor * self.passes(k, width) + self.spare
        first = -(-(k + 1) // width) * width
        sizes = range(first, max(passes * width, k + 4 * width, first) + 1, width)
        return tuple(sorted({min(size, dimension) for size in sizes}))


def expected_products(k: int) -> int:
    """Return the expected number of products with single vectors, certificate included."""
    return 3 * k + 40


def suits_lapack(dimension: int, k: int) -> bool:
    """Return whether LAPACK finds k pairs of an assembled matrix faster than an iteration."""
    return dimension <= _LAPACK_DIMENSION or k > _LAPACK_SHARE * dimension


def choose_engine(
    costs: Sequence[EngineCost],
    machine: Machine,
    *,
    engine: str,
    single: Collection[str],
    operator: str,
    extent: str,
    remedy: str,
) -> EnginePlan:
    """Choose the fastest engine that fits the memory, or check the requested one.

    Parameters
    ----------
    costs : sequence of EngineCost
        Costs of every engine that suits the data, `engine` among them unless it is "auto".
    single : collection of str
        Engines that make their passes in single precision.
    extent, remedy : str
        For the error message: size of the operator, and advice where no engine fits.

    Raises
    ------
    MemoryLimitError
        If the requested engine does not fit, or none does.
    """
    fitting = [cost for cost in costs if cost.bytes <= machine.available_bytes]
    fastest = min(costs, key=lambda cost: cost.seconds)
    if engine == "auto":
        fewest = min(costs, key=lambda cost: cost.bytes)
        chosen = min(fitting, key=lambda cost: cost.seconds, default=fewest)
        reason = "fastest"
        if chosen is not fastest:
            reason = f"fastest engine that fits; {fastest.name} needs more memory"
    else:
        chosen = next(cost for cost in costs if cost.engine == engine)
        reason = "as requested"
        if fitting:
            other = min(fitting, key=lambda cost: cost.seconds)
            remedy = f"set engine = {other.engine}, which fits"
    what = f"the {chosen.name} {operator} of {extent}"
    check_fits(chosen.bytes, machine.available_bytes, what, remedy)
    is_single = chosen.engine in single
    return EnginePlan(chosen.engine, is_single, reason, tuple(costs), operator, tuple(single))
