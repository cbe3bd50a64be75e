"""The network with the layers of a choice replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcembed.networks.low_rank.choice import Choice
from hpcembed.networks.low_rank.parts import Parts
from hpcembed.networks.low_rank.solved import SolvedLayers
from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.layers import OnnxLayer
from hpcembed.networks.onnx_compression.replacement import Replacement, replace_layers

__all__ = ["Solved", "build", "replacements_of"]


@dataclass(frozen=True)
class Solved(SolvedLayers):
    """A network with the factors of its layers.

    Attributes
    ----------
    network : Network
    layers : dict of str to OnnxLayer
    """

    network: Network
    layers: Mapping[str, OnnxLayer]

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
