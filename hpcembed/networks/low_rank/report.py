"""Record of a compression: its layers, its frontier, and the network as a whole."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hpcembed.networks.low_rank.shape import Cost, Ranks

__all__ = ["CompressionReport", "FrontierPoint", "LayerReport"]


@dataclass(frozen=True)
class LayerReport:
    """One layer before and after.

    Attributes
    ----------
    name, kind : str
    shape : tuple of int
        Outputs, inputs, places of the kernel, groups.
    side : {"output", "input", "both", "none"}
    rank_in, rank_out : int
        Ranks of the two sides; 0 where a side is whole.
    shared_with : tuple of str
        Other layers with the same reduction.
    captured : float
        Share of the variance, in the error norm, that the ranks keep; 1 for a whole layer.
    error_predicted, error_measured : float
        Mean square error of the output relative to its variance: from the factors, for the inputs
        that the layer has in the model; and measured on the calibration batches. If layers are
        fitted to the compressed network before them, the measured one is that of the output in
        this network, and contains the errors of the layers before. NaN where it was not measured.
    max_residual : float
        Largest true residual of an eigenpair, relative to the largest eigenvalue.
    orthogonality : float
        Largest deviation of the eigenvectors from orthonormality.
    solver : str
    parameters, macs, seconds : tuple of float
        Before and after. Multiply-adds are those of one sample, seconds those of one batch
        (0: not measured).
    reason : str
        Why the layer is whole; empty if it was cut.
    """

    name: str
    kind: str
    shape: tuple[int, int, int, int]
    side: str = "none"
    rank_in: int = 0
    rank_out: int = 0
    shared_with: tuple[str, ...] = ()
    captured: float = 1.0
    error_predicted: float = 0.0
    error_measured: float = float("nan")
    max_residual: float = 0.0
    orthogonality: float = 0.0
    solver: str = ""
    parameters: tuple[float, float] = (0.0, 0.0)
    macs: tuple[float, float] = (0.0, 0.0)
    seconds: tuple[float, float] = (0.0, 0.0)
    reason: str = ""


@dataclass(frozen=True)
class FrontierPoint:
    """Least predicted loss at one cost.

    Attributes
    ----------
    parameters, macs : float
        Of the whole network.
    predicted_loss : float
    measured_loss : float or None
        Loss in the metric, for the points that were built.
    ranks : dict of str to Ranks
    """

    parameters: float
    macs: float
    predicted_loss: float
    measured_loss: float | None
    ranks: Mapping[str, Ranks]


@dataclass(frozen=True)
class CompressionReport:
    """Result of a compression: layers, costs, scores, frontier.

    Attributes
    ----------
    layers : list of LayerReport
        In the order of execution; layers that the batches do not reach come last.
    frontier : list of FrontierPoint
        From the whole network to the smallest one, from one set of eigenproblems.
    before, after : Cost
        Parameters and multiply-adds per sample of the whole network, seconds of one batch.
    metric : str
    full_score, small_score : float or None
        The metric on the validation batches.
    loss : float or None
        Loss in the metric on the validation batches.
    test_scores : tuple of float, or None
        The metric on the test batches, before and after; read once.
    settings : dict
        Arguments of the compression.
    samples : int
        Calibration samples on all ranks.
    calibration_hash : str
        SHA-256 of the calibration batches.
    folded : tuple of str
        Normalisations that were folded into the layers before them.
    seconds : dict of str to float
        Seconds of each step.
    warnings : tuple of str
    """

    layers: list[LayerReport]
    frontier: list[FrontierPoint]
    before: Cost
    after: Cost
    metric: str
    full_score: float | None
    small_score: float | None
    loss: float | None
    test_scores: tuple[float, float] | None
    settings: Mapping[str, Any]
    samples: int
    calibration_hash: str
    folded: tuple[str, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def ranks(self) -> dict[str, Ranks]:
        """Ranks of the layers that were cut."""
        return {
            layer.name: Ranks(layer.rank_in, layer.rank_out)
            for layer in self.layers
            if layer.side != "none"
        }

    @property
    def parameters_kept(self) -> float:
        """Parameters after, relative to those before."""
        return self.after.parameters / self.before.parameters

    @property
    def macs_kept(self) -> float:
        """Multiply-adds after, relative to those before."""
        return self.after.macs / max(self.before.macs, 1e-300)

    def as_dict(self) -> dict[str, Any]:
        """Return the record in types that JSON has."""
        return asdict(self)

    def __repr__(self) -> str:
        return f"<CompressionReport: {self._headline()}>"

    def _repr_html_(self) -> str:
        """Return the headline and a table of the layers, for notebooks."""
        rows = "".join(
            f"<tr><td>{html.escape(layer.name)}</td><td>{layer.rank_out or layer.rank_in or '-'}"
            f"</td><td>{layer.parameters[0]:,}</td><td>{layer.parameters[1]:,}</td></tr>"
            for layer in self.layers
            if layer.side != "none"
        )
        return (
            f"<pre>{html.escape(str(self))}</pre><table><thead><tr><th>layer</th><th>rank</th>"
            f"<th>parameters</th><th>after</th></tr></thead><tbody>{rows}</tbody></table>"
        )

    def __str__(self) -> str:
        text = self._headline()
        return "\n".join([text, *(f"warning: {one}" for one in self.warnings)])

    def _headline(self) -> str:
        cut = sum(layer.side != "none" for layer in self.layers)
        text = (
            f"{cut} of {len(self.layers)} layers cut: {self.before.parameters:,.0f} -> "
            f"{self.after.parameters:,.0f} parameters ({self.parameters_kept:.1%}), "
            f"{self.before.macs:,.0f} -> {self.after.macs:,.0f} multiply-adds "
            f"({self.macs_kept:.1%})"
        )
        if self.loss is not None:
            text += f"; {self.metric} on validation {self.full_score:.5g} -> {self.small_score:.5g}"
        if self.test_scores is not None:
            text += ", on test {:.5g} -> {:.5g}".format(*self.test_scores)
        return text
