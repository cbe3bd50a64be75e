"""Calls: :func:`compress` and :func:`study`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpi4py import MPI

from hpcembed.jobs.compact.estimators import CompactClassifier, CompactRegressor, estimator_of
from hpcembed.jobs.compact.requests import configured, ranks_of, tables_of
from hpcembed.jobs.compact.results import StudyResult
from hpcembed.jobs.compact.search_in_memory import search_in_memory
from hpcembed.jobs.compact.temporary_folder import TemporaryFolder
from hpcembed.jobs.job import place
from hpcembed.jobs.study.command import conduct_study
from hpcembed.jobs.study.settings import StudyConfig, check_study, job_of
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError

__all__ = ["compress", "study"]


def compress(
    X: Any,
    y: Any,
    max_loss: float = 0.5,
    *,
    test: tuple[Any, Any] | None = None,
    task: str = "auto",
    comm: MPI.Comm | None = None,
    **parameters: Any,
) -> CompactClassifier | CompactRegressor:
    """Find the smallest network on dominant components that keeps the accuracy.

    Collective on `comm`.

    Parameters
    ----------
    X : array-like, sparse matrix, table, texts or RowStream
        Rows of this rank: arrays of two or more dimensions, tables of pandas, polars or Arrow,
        lists of texts, torch tensors, or files opened by :func:`hpcembed.open_rows`.
    y : array-like of shape (n_local,)
        Classes, or continuous targets.
    max_loss : float, default 0.5
        Points of accuracy that may be lost; for regression hundredths of R2.
    test : tuple, optional
        Test rows and their labels; default: rows held out of `X`.
    task : {"auto", "classification", "regression"}
        auto: text and at most 20 different numbers are classes; more numbers are targets if some
        are not integers. Other integers may be either: many of them without this argument are an
        error.
    comm : MPI.Comm, optional
        Ranks that share the rows; default: this rank alone.
    **parameters
        Further parameters of :class:`CompactClassifier`: networks, max_components, seeds,
        max_seeds, confidence, scaling, test_fraction, random_state, settings.

    Returns
    -------
    CompactClassifier or CompactRegressor
        Fitted, with ``report``, ``save(folder)`` and ``to_onnx(path)``.

    Raises
    ------
    HpcembedError
        On all ranks, one line.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> import hpcembed
    >>> X, y = load_wine(return_X_y=True)
    >>> small = hpcembed.compress(X, y, max_loss=5, networks=[(16,), (32,)], seeds=3)
    >>> small.predict(X[:3]).tolist()
    [0, 0, 0]
    """
    given = {"max_loss": max_loss, **parameters}
    known = CompactClassifier().get_params(deep=False)
    for name in given:
        if name not in known:
            raise ConfigError(f"compress: unknown parameter {name}: choose from {', '.join(known)}")
    ranks = ranks_of(X, comm)
    return estimator_of(search_in_memory(X, y, test, ranks, task, known | given), given)


def study(
    X: Any,
    y: Any,
    *,
    dimensions: Sequence[int] | None = None,
    networks: Sequence[Any] | None = None,
    seeds: int = 5,
    margin: float = 0.2,
    rivals: Sequence[str] = (),
    test: tuple[Any, Any] | None = None,
    task: str = "auto",
    scaling: str = "standard",
    test_fraction: float = 0.2,
    random_state: int = 0,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    comm: MPI.Comm | None = None,
) -> StudyResult | None:
    """Train networks on several numbers of components and on all features.

    Collective on `comm`.

    Parameters
    ----------
    X, y, test, task, comm
        As for :func:`compress`.
    dimensions : sequence of int, optional
        Numbers of components; default: all up to 16, then steps of a fifth, up to 50 and the
        number of features.
    networks : sequence, optional
        Names (large, medium, low, very_low) or tuples of layer widths; default: all names.
    seeds : int, default 5
    margin : float, default 0.2
        Points of accuracy that a network without loss may lose.
    rivals : sequence of str, default ()
        Other projections, compared on the same networks and seeds: lda, cca, lpp, gaussian, sparse,
        fast, dct, truncation, variance, autoencoder.
    scaling, test_fraction, random_state
        As for :class:`CompactClassifier`.
    settings : mapping of str to object, optional
        Further keys of the file of a study: ``{"study.recipe": "published"}``.
    out : path-like, optional
        Folder of the files; an earlier study there is continued. Default: a temporary folder.

    Returns
    -------
    StudyResult or None
        None on ranks other than 0.

    Raises
    ------
    HpcembedError
        On all ranks, one line.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> import hpcembed
    >>> X, y = load_wine(return_X_y=True)
    >>> found = hpcembed.study(X, y, dimensions=[2, 5], networks=[(16,)], seeds=2)
    >>> [(point["input"], point["n_inputs"]) for point in found.points]
    [('full', 13), ('spectral', 2), ('spectral', 5)]
    """
    ranks = ranks_of(X, comm)
    tables = tables_of(X, y, test, ranks)
    config = StudyConfig()
    with agreement(ranks):
        config = configured(
            StudyConfig,
            {
                "data": {
                    "name": "data",
                    "scaling": scaling,
                    "test_fraction": float(test_fraction),
                    "split_seed": random_state,
                    "task": task,
                },
                "solver": {"seed": random_state},
                "study": {
                    "dimensions": None if dimensions is None else list(dimensions),
                    "networks": None if networks is None else list(networks),
                    "seeds": seeds,
                    "first_seed": random_state,
                    "margin": float(margin),
                    "rivals": list(rivals),
                },
            },
            settings,
        )
        check_study(config, "settings")
    temporary = None
    if out is None:
        temporary = TemporaryFolder(ranks)
        out = temporary.path / "study"
    job = place(job_of(config), Path(), None, Path(out), ranks)
    job = dataclasses.replace(job, tables=tables)
    try:
        conduct_study(job, config, allow_fewer=dimensions is None)
    finally:
        if temporary is not None:
            temporary.remove_copies()
    return StudyResult(job.out, temporary) if ranks.rank == 0 else None
