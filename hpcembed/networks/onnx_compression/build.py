"""The network with the layers of a choice replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcembed.networks.low_rank.choice import Choice
from hpcembed.networks.low_rank.layer_data import LayerData
from hpcembed.networks.low_rank.parts import Parts, low_rank_parts
from hpcembed.networks.low_rank.problems import LayerProblem, SharedProblem
from hpcembed.networks.low_rank.shape import Ranks
from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.layers import OnnxLayer
from hpcembed.networks.onnx_compression.replacement import Replacement, replace_layers

__all__ = ["Solved", "build", "replacements_of"]


@dataclass(frozen=True)
class Solved:
    """A network with the factors of its layers.

    Attributes
    ----------
    network : Network
    layers : dict of str to OnnxLayer
    data : dict of str to LayerData
    problems : dict of str to LayerProblem
    shared : dict of tuple of str to SharedProblem
        By the names of the layers with a common reduction.
    """

    network: Network
    layers: Mapping[str, OnnxLayer]
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

    def replacement(self, name: str, parts: Parts, choice: Choice) -> Replacement:
        """Return the replacement of a layer by given weights."""
        group = self.group_of(name, choice)
        shared = group.names if group and parts.reduction is not None else ()
        return Replacement(self.layers[name], parts, shared)


def replacements_of(solved: Solved, choice: Choice) -> dict[str, Replacement]:
    """Return the replacements of the layers that a choice cuts, from their factors."""
    return {
        name: solved.replacement(name, solved.parts(name, ranks, choice), choice)
        for name, ranks in choice.ranks.items()
        if ranks.side != "none"
    }


def build(solved: Solved, choice: Choice) -> Network:
    """Return the network of a choice."""
    return replace_layers(solved.network, replacements_of(solved, choice))
