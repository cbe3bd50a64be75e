"""Compression of a trained torch model by dominant eigenvectors of its layers, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mpi4py import MPI
from torch import nn

from hpcembed.networks.compression.layers import LayerSelection
from hpcembed.networks.compression.metrics import Metric
from hpcembed.networks.compression.model_compression import ModelCompression
from hpcembed.networks.compression.settings import Settings
from hpcembed.networks.low_rank.report import CompressionReport
from hpcembed.networks.low_rank.request import Request
from hpcembed.networks.low_rank.shape import Ranks
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import communicator

__all__ = ["compress_model"]


def compress_model(
    model: nn.Module,
    calibration: Iterable[Any],
    *,
    max_loss: float | None = None,
    budget: Mapping[str, float] | None = None,
    ranks: Mapping[str, int | Ranks] | None = None,
    validation: Iterable[Any] | None = None,
    test: Iterable[Any] | None = None,
    metric: Metric = "accuracy",
    measure: str = "parameters",
    layers: LayerSelection = "linear,conv",
    side: str = "auto",
    objective: str = "loss",
    centre: bool = True,
    sequential: bool = True,
    sensitivity: bool | None = None,
    repair: str = "bias",
    epochs: int = 1,
    repair_batches: Iterable[Any] | None = None,
    learning_rate: float = 1e-3,
    comm: MPI.Comm | None = None,
    seed: int = 0,
) -> tuple[nn.Module, CompressionReport]:
    """Replace layers of a trained model by low-rank ones of least error on given data.

    Collective if `comm` has several ranks: every rank passes the same model and its own batches.

    Parameters
    ----------
    model : nn.Module
        Any module; it is not changed.
    calibration : iterable of batches
        A batch is a tensor, a dictionary of keyword arguments, or a pair ``(inputs, labels)``.
        Labels are not used. Some hundreds to thousands of samples.
    max_loss : float, optional
        Largest loss in `metric` on `validation`. The budget is bisected in seven steps, and the
        smallest model within the loss is returned; on few samples, where the loss is not monotone,
        there may be smaller ones. One of `max_loss`, `budget` and `ranks` is needed.
    budget : dict, optional
        ``{"parameters": 0.5}``, ``{"macs": 0.5}`` or ``{"seconds": 0.5}``: share of the model's
        parameters, multiply-adds or measured seconds of one batch.
    ranks : dict of str to int or Ranks, optional
        Rank of each layer by its name (of its outputs, if `side` permits them), or
        ``Ranks(inputs, outputs)`` as in ``report.ranks``; the others stay as they are.
    validation, test : iterable of batches, optional
        A callable metric needs no validation batches. The test batches are read once, at the end.
    metric : {"accuracy", "loss", "perplexity", "divergence", "cosine"} or callable
        Points of accuracy, nats of cross-entropy, perplexity, nats of the divergence from the model
        itself (no labels needed), or 1 minus the mean cosine between outputs, for models whose
        outputs are features. A callable takes a model and returns a score; larger is better.
    measure : {"parameters", "macs", "seconds"}
        Cost that `max_loss` makes small.
    layers : str, iterable or callable
        ``"linear,conv"``, names, patterns with ``*``, types, or a predicate of name and module.
        Depthwise and tied layers are left alone, and the report states the reason.
    side : {"auto", "output", "input"}
        Reduce the outputs of a layer (least error), its inputs (one reduction for all layers that
        read the same tensor), or the side that loses less.
    objective : {"loss", "output"}
        Errors of a layer are weighted by the second moment of the gradients of the loss at its
        output, with labels drawn from the model's own predictions, or not weighted.
    centre : bool
        Errors of deviations from the mean; the mean itself is kept by a bias.
    sequential : bool
        Fit each layer to the compressed network before it.
    sensitivity : bool, optional
        Weight layers by the loss that each causes alone: one short evaluation per layer. Default:
        for ``objective="output"``; predicted losses of the other objective are comparable already.
    repair : {"none", "bias", "distill"}
        Biases and statistics of batch normalisations that were not folded are estimated anew; or
        `epochs` of training to the model's own outputs on `repair_batches`, without labels.
    repair_batches : iterable of batches, optional
        Default: the calibration batches. An iterable that augments at random is read every epoch.
    learning_rate : float
        Largest one, of AdamW.
    comm : MPI.Comm, optional
        Default: this rank alone.
    seed : int

    Returns
    -------
    small : nn.Module
        A copy with plain ``nn.Sequential`` of ``nn.Linear`` or ``nn.Conv2d`` in the place of the
        layers that were cut, in evaluation mode; ``state_dict``, ``torch.export`` and ONNX take it.
    report : CompressionReport

    Raises
    ------
    ConfigError
        If arguments do not fit together or to the model, or a budget cannot be met (the least
        possible one is stated).
    InputError
        If the model does not take a batch, a value is not finite, or there are fewer calibration
        rows than a rank needs.
    ConvergenceError
        If an eigenpair is unconverged.

    References
    ----------
    Zhang, Zou, He, Sun, arXiv 1505.06798; Martens, Grosse, arXiv 1503.05671.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    >>> rows = torch.randn(500, 20) @ torch.randn(20, 20)
    >>> small, report = compress_model(model, rows.split(100), budget={"parameters": 0.5})
    >>> report.parameters_kept <= 0.5
    True
    >>> small(rows[:3]).shape
    torch.Size([3, 5])
    """
    request = Request(max_loss, budget, ranks, measure)
    settings = Settings(
        metric, layers, side, objective, centre, sequential, sensitivity, repair, epochs,
        learning_rate, seed,
    )  # fmt: skip
    comm = communicator(comm)
    with agreement(comm):
        request.check(has_validation=validation is not None or callable(metric))
    compression = ModelCompression(
        model, calibration, settings=settings, validation=validation, test=test,
        repair_batches=repair_batches, comm=comm, named=tuple(ranks or ()),
    )  # fmt: skip
    return compression.compress(request)
