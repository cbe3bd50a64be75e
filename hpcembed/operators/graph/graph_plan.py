"""Plan of a graph operator: memory of the solver's basis and of the coordinates."""

from __future__ import annotations

from dataclasses import dataclass

from hpcembed.operators.cost import Machine, Shape
from hpcembed.runtime.machine.memory import check_fits, format_bytes

__all__ = ["OPERATOR_TITLES", "GraphPlan", "plan_graph"]

OPERATOR_TITLES = {
    "adjacency": "adjacency",
    "normalized": "normalised adjacency",
    "laplacian": "Laplacian",
    "random_walk": "random walk",
    "modularity": "modularity",
}

#: Columns of the basis per pair, and in addition.
_BASIS_PER_PAIR, _BASIS = 3.0, 60


@dataclass(frozen=True, slots=True)
class GraphPlan:
    """Predicted memory of eigenvectors of a graph on one rank.

    The operator takes as much as the graph once more, which is not known before the graph is read.

    Attributes
    ----------
    operator : str
    bytes : int
        Memory of the solver's basis and of the coordinates.
    """

    operator: str
    bytes: int

    def describe(self) -> str:
        """Return the plan as one line of text."""
        return (
            f"{OPERATOR_TITLES[self.operator]} of the graph, products only: "
            f"{format_bytes(self.bytes)} per rank in addition"
        )


def plan_graph(operator: str, k: int, shape: Shape, machine: Machine) -> GraphPlan:
    """Return the memory of k eigenvectors for the graph nodes that rows belong to.

    Raises
    ------
    MemoryLimitError
        If they do not fit.
    """
    n_nodes = shape.n_train + shape.n_test if shape.n_nodes is None else shape.n_nodes
    needed = int(8 * -(-n_nodes // machine.ranks) * (_BASIS_PER_PAIR * k + _BASIS))
    what = f"the space of {k} eigenvectors of the {OPERATOR_TITLES[operator]}"
    check_fits(needed, machine.available_bytes, what, "use more ranks")
    return GraphPlan(operator, needed)
