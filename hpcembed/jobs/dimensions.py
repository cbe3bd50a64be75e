"""Diagnostics of the dimension of a job's data: of its spectrum, and of its projected rows."""

from __future__ import annotations

import math
import time
from typing import Any

import msgspec
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.embedding import Embedding
from hpcembed.embedding.diagnostics import (
    intrinsic_dimension,
    spectrum_measures,
    suggested_sizes,
)
from hpcembed.jobs.job import Job
from hpcembed.jobs.report.dimensions import (
    DimensionsRecord,
    IntrinsicRecord,
    SpectrumRecord,
    SuggestedSizeRecord,
)
from hpcembed.runtime.errors import InputError

__all__ = ["RUN_WORK", "STUDY_WORK", "affordable", "measure_dimensions"]

#: Products of pairs of rows that the intrinsic dimension may take: a run, a study.
RUN_WORK, STUDY_WORK = 4e9, 6e10

#: A comparison of two rows costs as much as this many products.
_COMPARISON = 64

#: Fewest rows of which an estimate is made, and fewest queries that are compared with all rows.
_FEWEST_ROWS, _FEWEST_QUERIES = 200, 2000

#: Methods whose coordinates preserve distances of rows, in the features or of a kernel.
_METRIC_METHODS = ("pca", "svd", "kernel_pca", "nystroem")


def measure_dimensions(
    job: Job, embedding: Embedding, coordinates: NDArray[Any], work: float
) -> DimensionsRecord | None:
    """Compute the diagnostics that fit the method of a job, and store their seconds in it.

    Collective.

    Parameters
    ----------
    coordinates : ndarray of shape (n_local, k)
        Projected training rows of this rank.
    work : float
        Products that may be formed for the intrinsic dimension, where ``diagnostics.rows`` is 0.

    Returns
    -------
    DimensionsRecord or None
        None if the job wants none, or none of them fits the method.
    """
    if not job.config.diagnostics.enabled or not embedding.certified_:
        return None
    began, n_rows = time.perf_counter(), int(job.comm.allreduce(len(coordinates)))
    spectrum, sizes = _of_spectrum(job, embedding, n_rows)
    intrinsic = _of_neighbours(job, coordinates, n_rows, work)
    seconds = job.comm.allreduce(time.perf_counter() - began, op=MPI.MAX)
    if spectrum is None and intrinsic is None:
        return None
    job.seconds["diagnostics"] = seconds
    return DimensionsRecord(spectrum, sizes, intrinsic, seconds)


def affordable(work: float, n_rows: int, n_columns: int) -> tuple[int, int]:
    """Return numbers of queries, and of rows that they are compared with, for an amount of work.

    Neighbours are found among all rows if at least 2,000 queries can be compared with them.

    Parameters
    ----------
    work : float
        Number of products.
    n_rows : int
        Number of all rows.
    n_columns : int
        Products of a pair of rows.

    Examples
    --------
    >>> affordable(6e10, 60_000, 50), affordable(6e10, 10_000_000, 50), affordable(6e10, 5_000, 50)
    ((8771, 60000), (2000, 263157), (5000, 5000))
    """
    pairs = int(work / (n_columns + _COMPARISON))
    rows = min(n_rows, max(pairs // _FEWEST_QUERIES, math.isqrt(pairs)))
    return min(rows, max(pairs // rows, 1)), rows


def _of_spectrum(
    job: Job, embedding: Embedding, n_rows: int
) -> tuple[SpectrumRecord | None, list[SuggestedSizeRecord]]:
    spectrum = embedding.spectrum_
    if spectrum.trace is None or spectrum.rank_limit is None or not spectrum.trace > 0:
        return None, []
    try:
        measures = spectrum_measures(spectrum.values, spectrum.trace, spectrum.rank_limit)
        sizes = suggested_sizes(
            spectrum.values,
            n_rows,
            embedding.n_features_in_,
            trace=spectrum.trace,
            centred=job.config.embedding.method == "pca",
        )
    except InputError as error:  # the results of the job do not depend on them
        job.log(f"no diagnostics of the spectrum: {error}")
        return None, []
    return (
        msgspec.convert(measures, SpectrumRecord, from_attributes=True),
        msgspec.convert(list(sizes), list[SuggestedSizeRecord], from_attributes=True),
    )


def _of_neighbours(
    job: Job, coordinates: NDArray[Any], n_rows: int, work: float
) -> IntrinsicRecord | None:
    """Estimate the intrinsic dimension of the coordinates. Collective."""
    settings, n_columns = job.config.diagnostics, coordinates.shape[1]
    if job.config.embedding.method not in _METRIC_METHODS or n_columns == 0:
        return None
    queries, rows = affordable(work, n_rows, n_columns)
    if settings.rows:
        queries, rows = settings.rows, n_rows
    if min(rows, queries) < max(_FEWEST_ROWS, settings.n_neighbours + 1):
        return None
    found = intrinsic_dimension(
        coordinates,
        n_neighbours=settings.n_neighbours,
        max_queries=queries,
        max_rows=rows,
        seed=settings.seed,
        comm=job.comm,
    )
    return msgspec.convert(found, IntrinsicRecord, from_attributes=True)
