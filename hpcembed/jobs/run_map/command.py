"""``hpcembed report RUN_FOLDER --map``: the map of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mpi4py import MPI

from hpcembed.jobs.export.finished_run import read_run
from hpcembed.jobs.report.run_folder import RunFolder
from hpcembed.jobs.run_map.rows import MapRows, map_rows
from hpcembed.runtime.agreement import agreement, idle_while_root
from hpcembed.runtime.errors import ConfigError, MissingPackageError
from hpcembed.runtime.optional import EXTRAS, install_command, missing
from hpcembed.runtime.output.lock import owned_output

__all__ = ["draw_run_map"]


def draw_run_map(folder: Path, comm: MPI.Intracomm, *, most: int = 10_000, seed: int = 0) -> str:
    """Draw the rows of a finished run at positions that UMAP finds; nothing is trained.

    Collective. Writes ``figures/map.png`` and ``figures/map.csv`` in the folder of the run.

    Parameters
    ----------
    folder : Path
        Output folder of ``hpcembed run``.
    most : int
        Rows in the map, at most: a sample of the training rows, evenly spaced.
    seed : int
        Of UMAP.

    Returns
    -------
    str
        One line with the file and its rows, on rank 0.

    Raises
    ------
    MissingPackageError
        umap-learn is not installed.
    HpcembedError
        The run or its data cannot be read, or a file cannot be written.
    """
    with agreement(comm):
        if most < 1:
            raise ConfigError(f"--rows {most}: give a number of at least 1")
        if not 0 <= seed < 2**32:
            raise ConfigError(f"--seed {seed}: give a number between 0 and 2^32 - 1")
    with agreement(comm):
        run = read_run(folder, None)
        # before the data are read
        if missing(EXTRAS["map"]):
            raise MissingPackageError(
                f"umap-learn is not installed: {install_command('map')}", name="umap"
            )
    with owned_output(comm, folder):
        rows = map_rows(run, comm, most)
        line = idle_while_root(comm, lambda: _draw(folder, run.record.dataset.name, rows, seed))
    return line or ""


def _draw(folder: Path, name: str, rows: MapRows | None, seed: int) -> str:
    assert rows is not None  # on rank 0
    from hpcembed.jobs.report.figures.components import draw_scatter
    from hpcembed.jobs.report.figures.style import FigureWriter
    from hpcembed.jobs.run_map.layout import map_positions

    positions = map_positions(rows.coordinates, seed)
    kind = "training rows" if isinstance(rows.names[0], int) else "nodes"
    counts = f"{rows.n_rows:,} {kind}"
    if len(positions) < rows.n_rows:
        counts = f"{len(positions):,} of {counts}"
    title = f"{name}: UMAP of {rows.coordinates.shape[1]} coordinates, {counts}"
    figure = draw_scatter(positions, rows.classes, title, rows.targets)
    figure.axes[0].set(xlabel="UMAP 1", ylabel="UMAP 2")
    figure.set_size_inches(6.4, 6.0)
    columns: dict[str, Any] = {
        "training_row" if kind == "training rows" else "node": rows.names,
        "umap1": positions[:, 0],
        "umap2": positions[:, 1],
    }
    if rows.targets is None:
        columns["class"] = rows.classes
    else:
        columns["target"] = rows.targets
    FigureWriter(RunFolder(folder), forms=("png",)).write("map", figure, columns)
    return f"map of {counts} written to {folder / 'figures' / 'map.png'}"
