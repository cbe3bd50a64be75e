"""``hpcembed compress-model``: a model of ONNX in, a smaller one out, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.splits import held_out_rows
from hpcembed.jobs.checkpoints.model_checkpoints import model_checkpoints
from hpcembed.jobs.network_compression.card import CardFacts, card_text, file_sha256
from hpcembed.jobs.network_compression.report import write_report
from hpcembed.jobs.network_compression.wording import (
    before_after,
    count_pair,
    layer_ranks,
    layer_size,
    number,
    one_line,
)
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.report.tables import TextTable
from hpcembed.networks.onnx_compression.compress import compress_onnx
from hpcembed.networks.onnx_compression.inference import require_onnxruntime
from hpcembed.networks.onnx_compression.model_files import write_model
from hpcembed.networks.onnx_compression.row_files import read_rows
from hpcembed.networks.onnx_compression.rows import RowSelection, checked_count, read_labels
from hpcembed.runtime.agreement import agreement, idle_while_root
from hpcembed.runtime.errors import ConfigError, OutputExistsError
from hpcembed.runtime.logging import show
from hpcembed.runtime.output import check_free
from hpcembed.runtime.output_lock import owned_output
from hpcembed.runtime.ranks import ownership_range
from hpcembed.runtime.whole_folder import whole_folder

if TYPE_CHECKING:
    import onnx

    from hpcembed.networks.low_rank.report import CompressionReport, LayerReport

__all__ = ["CompressModelRequest", "run_compress_model"]

#: Share of the rows that are held out where no validation rows are given.
_HELD_OUT = 0.25
#: Exit status if nothing within the largest loss is smaller than the model.
NOTHING_FOUND = 4


@dataclass(frozen=True, slots=True)
class CompressModelRequest:
    """Arguments of ``hpcembed compress-model``.

    Attributes
    ----------
    model : Path
    data, labels : Path, optional for labels
        Rows, and their class numbers.
    validation, validation_labels : Path, optional
        Default: a quarter of the rows of `data`, held out.
    max_loss : float, optional
        In points of accuracy, nats of the divergence, or units of 1 minus the cosine.
    budget : str
        ``parameters=0.5`` or ``macs=0.5``; empty with `max_loss`.
    metric : str
        Empty: accuracy where there are labels, else divergence.
    measure, side, layers : str
        As in :func:`~hpcembed.networks.onnx_compression.compress.compress_onnx`.
    batch_size, seed : int
        `seed` selects the rows that are held out.
    """

    model: Path
    data: Path
    labels: Path | None = None
    validation: Path | None = None
    validation_labels: Path | None = None
    max_loss: float | None = None
    budget: str = ""
    metric: str = ""
    measure: str = "parameters"
    side: str = "auto"
    layers: str = "linear,conv"
    batch_size: int = 64
    seed: int = 0

    def check(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        if (self.max_loss is None) == (not self.budget):
            raise ConfigError("give one of --max-loss and --budget")
        if self.max_loss is not None and not (math.isfinite(self.max_loss) and self.max_loss >= 0):
            raise ConfigError(f"--max-loss {self.max_loss}: give a number from 0 on")
        if self.validation is None and self.validation_labels is not None:
            raise ConfigError("--validation-labels needs --validation")
        if self.validation and self.labels and not self.validation_labels and not self.metric:
            raise ConfigError(
                "--labels are those of --data, and --validation has other rows: give "
                "--validation-labels, or --metric divergence, which needs none"
            )
        if self.metric == "accuracy" and not self._has_labels:
            option = "--validation-labels" if self.validation else "--labels"
            raise ConfigError(f"--metric accuracy needs labels: give {option}")
        self.budgets()

    @property
    def _has_labels(self) -> bool:
        return (self.validation_labels if self.validation else self.labels) is not None

    def chosen_metric(self) -> str:
        """Return the metric that is used."""
        return self.metric or ("accuracy" if self._has_labels else "divergence")

    def budgets(self) -> dict[str, float] | None:
        """Return the budget as a dictionary, or None.

        Raises
        ------
        ConfigError
            It is not of the form ``parameters=0.5``.
        """
        if not self.budget:
            return None
        measure, _, share = self.budget.partition("=")
        message = f"--budget {self.budget}: write parameters=0.5 or macs=0.5"
        if measure.strip() not in ("parameters", "macs"):
            raise ConfigError(message)
        try:
            return {measure.strip(): float(share)}
        except ValueError as error:
            raise ConfigError(message) from error


@dataclass(frozen=True)
class _Selected:
    """This rank's rows for calibration and validation, and their description."""

    calibration: RowSelection
    validation: tuple[RowSelection, NDArray[Any] | None]
    text: str


def run_compress_model(
    request: CompressModelRequest,
    out: Path | None,
    comm: MPI.Intracomm,
    *,
    checkpoint_every: float | None = None,
) -> int:
    """Compress a model, print the report, and write the result.

    Collective.

    Parameters
    ----------
    out : Path, optional
        A file ``NAME.onnx`` or a folder; default a file ``NAME-compressed.onnx`` beside the model.
    checkpoint_every : float, optional
        Seconds between checkpoints; default: so that they take at most 2 % of the time.

    Returns
    -------
    int
        Exit status: 0, or 4 if nothing within the largest loss is smaller than the model.
    """
    request.check()
    require_onnxruntime()
    target = out or request.model.with_name(f"{request.model.stem}-compressed.onnx")
    with owned_output(comm, target):
        return _run_compress_model(request, target, comm, checkpoint_every)


def _run_compress_model(
    request: CompressModelRequest, target: Path, comm: MPI.Intracomm, every: float | None
) -> int:
    with agreement(comm):
        _check_target(target)
        arrays = read_rows(request.data)
    selected = _select(request, arrays, comm)
    metric = request.chosen_metric()
    if comm.rank == 0:
        show(selected.text)
        if metric == "divergence":
            show("metric: divergence from the model itself, in nats; it needs no labels")
    files = (request.model, request.data, request.validation)
    settings = [request.layers, request.side, request.batch_size, request.seed]
    with model_checkpoints(comm, target, files, settings, every) as checkpoint:
        model, report = compress_onnx(
            request.model, selected.calibration, max_loss=request.max_loss,
            budget=request.budgets(), validation=selected.validation, metric=metric,
            measure=request.measure, layers=request.layers, side=request.side,
            batch_size=request.batch_size, comm=comm, checkpoint=checkpoint,
        )  # fmt: skip
    saves = bool(report.ranks)

    def finish() -> None:
        for text in report.warnings:
            show(f"warning: {text}")
        show(terminal_table(report).terminal())
        show(TextTable(("", "before", "after", "kept"), before_after(report)).terminal())
        if saves:
            _write(model, report, request.model.stem, request.data.name, target)
            show(f"model written to {target}")
        elif request.max_loss is not None:
            show(f"no smaller model loses at most {request.max_loss:g} on the validation rows")
        else:
            show("the model is within the budget as it is; nothing was written")

    idle_while_root(comm, finish)
    return NOTHING_FOUND if request.max_loss is not None and not saves else 0


def _check_target(target: Path) -> None:
    if target.suffix == ".onnx":
        if target.exists():
            raise OutputExistsError(f"{target}: exists; choose another file or remove it")
    else:
        check_free(target)


def _select(
    request: CompressModelRequest, arrays: Mapping[str, NDArray[Any]], comm: MPI.Intracomm
) -> _Selected:
    """Return this rank's rows. Collective."""
    with agreement(comm):
        n = checked_count(arrays, str(request.data))
        first, last = ownership_range(n, comm)
        labels = None
        if request.labels is not None:
            labels = read_labels(request.labels, str(request.labels), n)[first:last]
        validation = None
        if request.validation is not None:
            validation = _validation(request, request.validation, comm)
    numbers = np.arange(first, last)
    local = {key: array[first:last] for key, array in arrays.items()}
    if validation is not None:
        rows, _ = validation
        count = comm.allreduce(len(rows.numbers))
        text = f"calibration: {n:,} rows of {request.data}; validation: {count:,} of {rows.name}"
        return _Selected(RowSelection(local, numbers, str(request.data)), validation, text)
    out = held_out_rows(
        "random", _HELD_OUT, request.seed, np.zeros(len(numbers), np.int64), 1, first, n, comm
    )
    parts = [
        RowSelection(
            {key: array[mask] for key, array in local.items()}, numbers[mask], str(request.data)
        )
        for mask in (~out, out)
    ]
    held = int(comm.allreduce(int(out.sum())))
    text = (
        f"calibration: {n - held:,} rows of {request.data}; validation: the other {held:,}, "
        f"selected at random (seed {request.seed})"
    )
    return _Selected(parts[0], (parts[1], None if labels is None else labels[out]), text)


def _validation(
    request: CompressModelRequest, path: Path, comm: MPI.Intracomm
) -> tuple[RowSelection, NDArray[Any] | None]:
    arrays = read_rows(path)
    n = checked_count(arrays, str(path))
    first, last = ownership_range(n, comm)
    labels = None
    if request.validation_labels is not None:
        file = request.validation_labels
        labels = read_labels(file, str(file), n)[first:last]
    local = {key: array[first:last] for key, array in arrays.items()}
    return RowSelection(local, np.arange(first, last), str(path)), labels


def terminal_table(report: CompressionReport) -> TextTable:
    """Return the table of the layers, with the columns that fit on a terminal."""
    rows = []
    for layer in report.layers:
        is_cut = layer.side != "none"
        rows.append(
            (
                one_line(layer.name),
                layer.kind,
                layer_size(layer),
                _ranks_and_sharing(layer) if is_cut else layer.reason,
                number(layer.error_measured) if is_cut else "-",
                *count_pair(layer.parameters),
            )
        )
    headings = ("layer", "type", "outputs x inputs", "rank", "error", "parameters", "after")
    return TextTable(headings, rows, text_columns=(0, 1, 2, 3))


def _ranks_and_sharing(layer: LayerReport) -> str:
    """Return the ranks, and the layers that have the same reduction."""
    shared = f", shared with {one_line(', '.join(layer.shared_with))}" if layer.shared_with else ""
    return layer_ranks(layer) + shared


def _write(
    model: onnx.ModelProto, report: CompressionReport, name: str, data: str, target: Path
) -> None:
    if target.suffix == ".onnx":
        write_model(model, target)
        return
    with whole_folder(target) as partial:
        path = partial / "model.onnx"
        write_model(model, path)
        folder = RunFolder(partial)
        files = tuple(sorted(one.name for one in partial.iterdir()))
        size = sum(one.stat().st_size for one in partial.iterdir())
        facts = CardFacts(one_line(name), data, files, file_sha256(path), n_bytes=size)
        folder.write_text("README.md", card_text(report, facts))
        write_report(folder, report, name)
