"""Plan of a kernel by features: cost of the features of all rows and of their scatter."""

from __future__ import annotations

from dataclasses import dataclass

from hpcembed.operators.cost import Machine, Rates, Shape
from hpcembed.operators.kernel.feature_maps import feature_rows
from hpcembed.runtime.machine.memory import check_fits, format_bytes

__all__ = ["FeaturePlan", "plan_features"]


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """Predicted cost of principal components of features, on one rank.

    Attributes
    ----------
    width : int
        Number of features.
    seconds : float
        Seconds for the features of all rows and their scatter.
    bytes : int
        Memory beyond the data.
    """

    width: int
    seconds: float
    bytes: int

    def describe(self) -> str:
        """Return the plan as one line of text."""
        return (
            f"kernel by {self.width:,} features of each row, double precision; predicted per rank: "
            f"{self.seconds:.2g} s and {format_bytes(self.bytes)}"
        )


def plan_features(shape: Shape, width: int, machine: Machine) -> FeaturePlan:
    """Return the cost of `width` features of every row.

    Raises
    ------
    MemoryLimitError
        If the scatter does not fit.
    """
    ranks, d = machine.ranks, shape.n_features
    share, rate = -(-shape.n_train // ranks), machine.threads * Rates.product[8]
    # multiply-adds of the features, of half of their squares, of factors and of one eigenproblem
    seconds = share * width * (d + width / 2) / rate + 3 * width**3 / rate
    seconds += share * width / Rates.function[8]
    rows = feature_rows(d, width)
    squares = 5 * width**2 + width**2 // ranks
    needed = 8 * (squares + 3 * width * d + 3 * rows * (width + d))
    what = f"the scatter of {width} features"
    check_fits(needed, machine.available_bytes, what, "use fewer of them")
    return FeaturePlan(width, seconds, needed)
