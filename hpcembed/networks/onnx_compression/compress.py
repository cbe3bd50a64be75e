"""The function that compresses a model of ONNX by dominant eigenvectors of its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from mpi4py import MPI

from hpcembed.networks.low_rank.report import CompressionReport
from hpcembed.networks.low_rank.request import Request
from hpcembed.networks.low_rank.shape import Ranks
from hpcembed.networks.onnx_compression.compression import (
    MEASURES,
    Model,
    OnnxCompression,
    Validation,
)
from hpcembed.networks.onnx_compression.metrics import Metric
from hpcembed.networks.onnx_compression.rows import RowData
from hpcembed.networks.onnx_compression.settings import OnnxSettings
from hpcembed.networks.onnx_compression.statistics import SumsCheckpoint
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import communicator

__all__ = ["compress_onnx"]


def compress_onnx(
    model: Model,
    calibration: RowData,
    *,
    max_loss: float | None = None,
    budget: Mapping[str, float] | None = None,
    ranks: Mapping[str, int | Ranks] | None = None,
    validation: Validation | None = None,
    test: Validation | None = None,
    metric: Metric = "accuracy",
    measure: str = "parameters",
    layers: str | Sequence[str] = "linear,conv",
    side: str = "auto",
    centre: bool = True,
    sequential: bool = True,
    sensitivity: bool = True,
    batch_size: int = 64,
    comm: MPI.Comm | None = None,
    checkpoint: SumsCheckpoint | None = None,
) -> tuple[onnx.ModelProto, CompressionReport]:
    """Replace layers of a trained model of ONNX by low-rank ones of least error on given data.

    Collective if `comm` has several ranks: every rank passes the same model and its own rows.

    Parameters
    ----------
    model : onnx.ModelProto or path
        It is not changed.
    calibration : array, dict of arrays, or path
        Rows for the input of the model, shape (n, ...), or for several inputs by their names. Some
        hundreds to thousands. Of a file each rank takes its share.
    max_loss : float, optional
        Largest loss in `metric` on `validation`: the smallest model within it is returned. One of
        `max_loss`, `budget` and `ranks` is needed.
    budget : dict, optional
        ``{"parameters": 0.5}`` or ``{"macs": 0.5}``: share of the model's floating-point constants
        or multiply-adds.
    ranks : dict of str to int or Ranks, optional
        Rank of each layer by its name; the others stay as they are.
    validation, test : rows, or pair (rows, class numbers), optional
        The test rows are read once, at the end.
    metric : {"accuracy", "divergence", "cosine"} or callable
        Points of accuracy, nats of the divergence from the model itself (no labels needed), or 1
        minus the mean cosine between outputs. A callable takes a ModelProto and returns a score;
        larger is better.
    measure : {"parameters", "macs"}
        Cost that `max_loss` makes small.
    layers : str or sequence of str
        ``"linear,conv"``, or patterns with ``*`` of names of nodes or weights.
    side : {"auto", "output", "input"}
        Reduce the outputs of a layer (least error), its inputs (one reduction for all layers that
        read the same tensor), or the side that loses less.
    centre : bool
        Errors of deviations from the mean; the mean itself is kept by a bias.
    sequential : bool
        Fit each layer to the compressed network before it.
    sensitivity : bool
        Weight layers by the loss that each causes alone: one short evaluation per layer.
    batch_size : int
        Rows that ONNX Runtime gets at a time, unless the model fixes them.
    comm : MPI.Comm, optional
        Default: this rank alone.
    checkpoint : SumsCheckpoint, optional
        Where the moments of the layers are stored, and continue from.

    Returns
    -------
    small : onnx.ModelProto
        The model with two or three nodes in the place of the layers that were cut, with the same
        inputs, outputs, operator set and version of the representation.
        :func:`~hpcembed.networks.onnx_compression.model_files.write_model` writes it.
    report : CompressionReport

    Raises
    ------
    ConfigError
        If arguments do not fit together or to the model, a budget cannot be met (the least possible
        one is stated), or onnxruntime is missing.
    InputError
        If the file is not a model, the model does not take the rows, a value is not finite, or
        there are fewer calibration rows than a rank needs.

    References
    ----------
    Zhang, Zou, He, Sun, arXiv 1505.06798.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import TensorProto, helper, numpy_helper
    >>> rng = np.random.default_rng(0)
    >>> W = numpy_helper.from_array(rng.standard_normal((40, 30)).astype(np.float32), "W")
    >>> x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 40])
    >>> y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 30])
    >>> node = helper.make_node("MatMul", ["x", "W"], ["y"], "layer")
    >>> graph = helper.make_graph([node], "graph", [x], [y], [W])
    >>> model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    >>> rows = rng.standard_normal((300, 6)) @ rng.standard_normal((6, 40))
    >>> small, report = compress_onnx(model, rows, ranks={"layer": 6})
    >>> report.layers[0].error_measured < 1e-8
    True
    """
    comm = communicator(comm)
    request = Request(max_loss, budget, ranks, measure)
    with agreement(comm):
        request.check(validation is not None or callable(metric), MEASURES, "rows")
    settings = OnnxSettings(metric, layers, side, centre, sequential, sensitivity, batch_size)
    compression = OnnxCompression(
        model, calibration, settings=settings, validation=validation, test=test, comm=comm,
        named=tuple(ranks or ()), checkpoint=checkpoint,
    )  # fmt: skip
    return compression.compress(request)
