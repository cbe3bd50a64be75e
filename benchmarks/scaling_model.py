"""Cost of PCA on many ranks: a latency-bandwidth model of the messages that a run sent.

A message of V bytes takes ``alpha + V / bandwidth`` seconds. L = ceil(log2 P) levels of a tree:

=================  ==================================================================
broadcast          min(L (alpha + V/B), (L + P - 1) alpha + 2 V/B)   tree, or scatter and gather
reduction          min(L (alpha + V/B), 2 L alpha + 2 V/B)           tree, or halving and doubling
reduce-scatter     L alpha + V/B
allgather          L alpha + V/B
rows to one rank   (P - 1) overhead + alpha + V/B, then a broadcast  as allgather_rows does it
number to all      L alpha + P overhead                              small objects, one a rank
=================  ==================================================================

A product of the covariance with b columns of length d gathers V = 8 d b bytes and reduces as many;
before it, two numbers of every rank are sent to all and one is summed. Arithmetic on rows takes
1/P of its time, that on columns of length d takes 1/min(P, d); the projected problem is solved on
one rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

#: Smallest useful efficiency, and exponent of the largest number of ranks.
HALF = 0.5
LARGEST = 17


@dataclass(frozen=True)
class Network:
    """Seconds of a message, bytes per second, and seconds of one rank in a loop over all ranks.

    The defaults are those of a 100 Gbit/s InfiniBand network and of a loop in Python.
    """

    alpha: float = 1.5e-6
    bandwidth: float = 12e9
    overhead: float = 2e-6

    def broadcast(self, V: float, P: int) -> float:
        if P == 1:
            return 0.0
        L, transfer = levels(P), V / self.bandwidth
        return min(L * (self.alpha + transfer), (L + P - 1) * self.alpha + 2 * transfer)

    def reduction(self, V: float, P: int) -> float:
        if P == 1:
            return 0.0
        L, transfer = levels(P), V / self.bandwidth
        return min(L * (self.alpha + transfer), 2 * L * self.alpha + 2 * transfer)

    def spread(self, V: float, P: int) -> float:
        """Return the seconds of a reduce-scatter or an allgather."""
        return 0.0 if P == 1 else levels(P) * self.alpha + V / self.bandwidth

    def rows_to_all(self, V: float, P: int) -> float:
        """Return the seconds of a gather on one rank and a broadcast."""
        if P == 1:
            return 0.0
        collected = (P - 1) * self.overhead + self.alpha + V / self.bandwidth
        return collected + self.broadcast(V, P)

    def number_to_all(self, P: int) -> float:
        return 0.0 if P == 1 else levels(P) * self.alpha + P * self.overhead


@dataclass(frozen=True)
class Work:
    """Work of one fit and one projection on one rank, and its messages.

    Attributes
    ----------
    rows, features : int
    row_seconds : float
        Arithmetic on rows: passes, projection, assembly of the covariance.
    column_seconds : float
        Arithmetic on columns of length d, such as orthogonalisation.
    serial_seconds : float
        Projected problems.
    widths : list of int
        Number of columns of each product.
    reductions, reduction_bytes : int and float
        Reductions of the orthogonalisation, and the size of one.
    triangle_bytes : float
        Size of the assembled covariance, which is reduced once; 0 without one.
    """

    rows: int
    features: int
    row_seconds: float
    column_seconds: float
    serial_seconds: float
    widths: list[int] = field(default_factory=list)
    reductions: int = 0
    reduction_bytes: float = 0.0
    triangle_bytes: float = 0.0

    def scaled(self, factor: float) -> Work:
        """Return the work with `factor` times the rows."""
        rows, seconds = round(self.rows * factor), self.row_seconds * factor
        return replace(self, rows=rows, row_seconds=seconds)

    @property
    def alone(self) -> float:
        """Return the seconds on one rank."""
        return self.row_seconds + self.column_seconds + self.serial_seconds


@dataclass(frozen=True)
class Cost:
    """Predicted seconds on P ranks, by kind."""

    ranks: int
    rows: float
    columns: float
    serial: float
    gather: float
    reduce: float
    orthogonalisation: float

    @property
    def total(self) -> float:
        messages = self.gather + self.reduce + self.orthogonalisation
        return self.rows + self.columns + self.serial + messages

    @property
    def largest(self) -> str:
        """Return the kind that takes longest."""
        names = ("rows", "columns", "serial", "gather", "reduce", "orthogonalisation")
        return max(names, key=lambda name: getattr(self, name))


def levels(P: int) -> int:
    return math.ceil(math.log2(P)) if P > 1 else 0


def predicted(work: Work, network: Network, P: int, *, collective: bool = False) -> Cost:
    """Predict the cost on P ranks; `collective`: one call of MPI gathers the columns."""
    gather = reduce = 0.0
    for b in work.widths:
        V = 8.0 * work.features * b
        if collective:
            gather += network.spread(V, P)
        else:
            gather += network.rows_to_all(V, P) + 2 * network.number_to_all(P)
            gather += network.reduction(8, P)
        reduce += network.spread(V, P)
    return Cost(
        ranks=P,
        rows=work.row_seconds / min(P, work.rows),
        columns=work.column_seconds / min(P, work.features),
        serial=work.serial_seconds,
        gather=gather,
        reduce=reduce + (network.reduction(work.triangle_bytes, P) if work.triangle_bytes else 0.0),
        orthogonalisation=work.reductions * network.reduction(work.reduction_bytes, P),
    )


def efficiency(work: Work, cost: Cost) -> float:
    """Return the speed relative to P times that of one rank."""
    return work.alone / (cost.ranks * cost.total)


def strong_limits(work: Work, network: Network, *, collective: bool = False) -> tuple[int, int]:
    """Return the most ranks (a power of 2) at half efficiency, and the fastest number of ranks."""
    costs = [predicted(work, network, 2**e, collective=collective) for e in range(LARGEST + 1)]
    useful = [cost.ranks for cost in costs if efficiency(work, cost) >= HALF]
    return max(useful, default=1), min(costs, key=lambda cost: cost.total).ranks


def weak_limit(work: Work, network: Network, *, collective: bool = False) -> int:
    """Return the most ranks (a power of 2), each with all rows of `work`, at twice its time."""
    most = 1
    for P in (2**e for e in range(LARGEST + 1)):
        cost = predicted(work.scaled(P), network, P, collective=collective)
        if work.alone / cost.total >= HALF:
            most = P
    return most
