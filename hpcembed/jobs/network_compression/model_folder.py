"""Model folder of a compressed network: weights, loader, ONNX graph, card and report."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

from mpi4py import MPI

from hpcembed.jobs.network_compression.card import CardFacts, card_text
from hpcembed.jobs.network_compression.report import folder_for, write_report
from hpcembed.jobs.network_compression.wording import one_line
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.networks.low_rank.report import CompressionReport
from hpcembed.runtime.agreement import idle_while_root
from hpcembed.runtime.output.whole_folder import whole_folder
from hpcembed.runtime.ranks import communicator

__all__ = ["write_compressed_model"]

CARD, LOADER = "README.md", "load_model.py"


def write_compressed_model(
    small: Any,
    report: CompressionReport,
    folder: str | os.PathLike[str],
    *,
    example: Any = None,
    model_name: str = "",
    data_name: str = "",
    comm: MPI.Comm | None = None,
) -> Path:
    """Write a compressed model as a folder that loads without hpcembed.

    Collective if `comm` is given. The files are ``model.safetensors`` (every tensor once),
    ``layers.json`` (replaced layers), ``load_model.py`` (a script of plain torch), ``model.onnx``
    if there is an `example`, a card ``README.md``, and those of the report
    (:func:`~hpcembed.jobs.network_compression.report.write_report_folder`).

    Parameters
    ----------
    small : nn.Module
        The result of :func:`hpcembed.compress_model`. It is not changed.
    report : CompressionReport
        Of the same compression.
    folder : path
        Must not exist, or be an empty folder. It is complete or absent.
    example : batch, optional
        A tensor, a dictionary, or a pair ``(inputs, labels)``. The number of samples stays free in
        ``model.onnx``. A model that cannot be exported gives one warning
        (`UserWarning`, also in the card) and a folder without the graph.
    model_name, data_name : str
        For the card and the page.
    comm : MPI.Comm, optional
        Rank 0 writes, the others wait. Default: the calling rank writes.

    Returns
    -------
    Path

    Raises
    ------
    ConfigError
        If `small` is not the model of the report, or has a tensor that cannot be written.
    InputError
        If `small` does not take the example.
    OutputExistsError
        If the folder is not empty, or is a file.
    OutputError
        If the folder cannot be written.

    Examples
    --------
    >>> import os, tempfile, torch
    >>> from hpcembed.networks.compression import compress_model
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 5)
    ... )
    >>> rows = torch.randn(300, 20)
    >>> small, report = compress_model(model, [rows], budget={"parameters": 0.5})
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     path = write_compressed_model(small, report, os.path.join(parent, "small"))
    ...     sorted(name for name in os.listdir(path) if name.startswith(("load", "model", "R")))
    ['README.md', 'load_model.py', 'model.safetensors']
    """
    path = folder_for(report, folder)

    def write() -> tuple[str, ...]:
        with whole_folder(path) as partial:
            return _write(RunFolder(partial), small, report, example, model_name, data_name)

    # Rank 0 alone has warnings.
    for text in idle_while_root(communicator(comm), write) or ():
        warnings.warn(text, UserWarning, stacklevel=2)
    return path


def _write(
    folder: RunFolder, small: Any, report: CompressionReport, example: Any, model_name: str,
    data_name: str,
) -> tuple[str, ...]:  # fmt: skip
    """Write all files; return the warnings of the export."""
    from hpcembed.networks.compression.model_file import write_model_files

    files = write_model_files(small, report, folder.path, example)
    script = resources.files(__package__).joinpath(f"{LOADER}.txt").read_text(encoding="utf-8")
    folder.write_text(LOADER, script)
    facts = {key: value for key, value in asdict(files).items() if key != "names"}
    card = CardFacts(one_line(model_name), one_line(data_name), files.names, **facts)
    folder.write_text(CARD, card_text(report, card))
    # The page of the folder has the warnings of the export as well.
    complete = replace(report, warnings=(*report.warnings, *files.warnings))
    write_report(folder, complete, one_line(model_name))
    return files.warnings
