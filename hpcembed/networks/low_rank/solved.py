"""Layers of a network with the factors of their eigenproblems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcembed.networks.low_rank.choice import Choice
from hpcembed.networks.low_rank.layer_data import LayerData
from hpcembed.networks.low_rank.parts import Parts, low_rank_parts
from hpcembed.networks.low_rank.problems import LayerProblem, SharedProblem
from hpcembed.networks.low_rank.shape import Ranks

__all__ = ["SolvedLayers"]


@dataclass(frozen=True)
class SolvedLayers:
    """Layers that may be cut, in the order of execution, with their factors.

    Attributes
    ----------
    data : dict of str to LayerData
    problems : dict of str to LayerProblem
    shared : dict of tuple of str to SharedProblem
        By the names of the layers with a common reduction.
    """

    data: Mapping[str, LayerData]
    problems: Mapping[str, LayerProblem]
    shared: Mapping[tuple[str, ...], SharedProblem]

    def group_of(self, name: str, choice: Choice) -> SharedProblem | None:
        """Return the shared reduction of a layer in a choice, or None."""
        for names in choice.shared:
            if name in names:
                return self.shared[names]
        return None

    def parts(self, name: str, ranks: Ranks, choice: Choice) -> Parts:
        """Return the weights of the replacement of a layer."""
        group = self.group_of(name, choice)
        return low_rank_parts(
            self.data[name], self.problems[name], ranks, group.input if group else None
        )
