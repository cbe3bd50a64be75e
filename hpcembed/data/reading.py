"""From a job's [data] section to a data set: which reader, which split, which scaling.

Each phase that one rank alone may fail in ends with an agreement of all ranks. Headers first: what
they declare is compared between ranks and with the memory before a row is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.dataset import Dataset, Description, RawTable, Source, Summary, Table, place_rows
from hpcembed.data.files import file_size
from hpcembed.data.formats import format_of, open_source
from hpcembed.data.graphs.node_table import Smooth, open_graph
from hpcembed.data.labels import encode_labels
from hpcembed.data.scaling import fit_scaling
from hpcembed.data.settings import GRAPH_FORMATS, DataSettings, GraphSettings
from hpcembed.data.splits import held_out_rows
from hpcembed.data.tables.sparse_columns import align_columns
from hpcembed.data.text.document_term_tables import vectorise_tables
from hpcembed.data.text.folders_and_archives import folder_size
from hpcembed.data.text.formats import TEXT_FORMATS
from hpcembed.data.text.vectoriser import Vectoriser
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.memory import available_per_rank, check_fits
from hpcembed.runtime.ranks import agreement

__all__ = ["describe_dataset", "read_dataset"]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a configuration asks for: opened sources (training, perhaps test) and files."""

    format: str
    split: str
    sources: tuple[Source, ...]
    files: tuple[Path, ...]


def read_dataset(
    config: DataSettings,
    data_dir: Path,
    comm: MPI.Comm,
    *,
    available_bytes: int | None = None,
    graph: GraphSettings | None = None,
    smooth: Smooth | None = None,
) -> Dataset:
    """Read, split and encode a labelled data set; each rank holds a consecutive share of the rows.

    Collective.

    Parameters
    ----------
    config : DataSettings
        Format, files, labels, split, scaling.
    data_dir : Path
        Folder that the paths in `config` are relative to.
    comm : MPI.Comm
        More ranks than rows are allowed; some then hold none.
    available_bytes : int, optional
        Memory that a rank may take; by default what the machine has.
    graph : GraphSettings, optional
        How graphs are read.
    smooth : callable, optional
        What averages attributes over a graph, for those who ask for it.

    Returns
    -------
    Dataset
        Rows as read; ``scaling`` holds what is to be applied to them.

    Raises
    ------
    InputError
        The data cannot be used: one line with file, place and remedy, on all ranks.
    MemoryLimitError
        A rank's share does not fit; raised before anything large is allocated.
    ConfigError
        The configuration contradicts itself.
    """
    plan = _open(config, data_dir, comm, graph or GraphSettings(), smooth)
    summaries = [source.summary for source in plan.sources]
    _check_same_on_all_ranks(summaries, plan, comm)
    needed = sum(source.measure(comm) for source in plan.sources)
    if plan.split != "own":
        needed *= 2  # a split copies the rows into two tables
    if available_bytes is None:
        available_bytes = available_per_rank(comm)
    listed = ", ".join(str(path) for path in plan.files[:3]) or plan.format
    check_fits(needed, available_bytes, f"reading {listed}", "use more ranks or nodes")

    tables = align_columns([source.read(comm) for source in plan.sources], config.n_features, comm)
    if plan.split == "own":
        train, test = _encode_own(tables[0], tables[1], comm)
    else:
        train, test = _split(tables[0], plan.split, config, comm)
    del tables  # the rows live in the parts
    vectoriser: Vectoriser | None = None
    if plan.format in TEXT_FORMATS:
        train, test, vectoriser = vectorise_tables(train, test, config, comm, available_bytes)
    # A sparse file tells its width only now; the scaling takes some vectors of it.
    width = train.rows.shape[1]
    check_fits(64 * width, available_bytes, f"{listed}: {width} features", "check the file")
    scaling = fit_scaling(config.scaling, config.divisor, train.rows, train.n_rows, comm)
    return Dataset(config.name, train, test, scaling, tuple(map(str, plan.files)), vectoriser)


def describe_dataset(
    config: DataSettings, data_dir: Path, comm: MPI.Comm, graph: GraphSettings | None = None
) -> Description:
    """Say what a data set holds from its headers; nothing large is read.

    Collective. Where rows are to be held out, their number is `test_fraction` of all, which a
    stratified split meets up to one row a class.

    Raises
    ------
    InputError, ConfigError
        As :func:`read_dataset`, as far as headers tell.
    """
    plan = _open(config, data_dir, comm, graph or GraphSettings())
    summaries = [source.summary for source in plan.sources]
    head = summaries[0]
    with agreement(comm):
        stored_bytes = sum(
            folder_size(path) if path.is_dir() else file_size(path) for path in plan.files
        )
    n_train: int | None = head.n_rows
    n_test: int | None = summaries[-1].n_rows
    if plan.split != "own" and n_train is not None:
        n_test = round(config.test_fraction * n_train)
        n_train -= n_test
    nnz = [summary.nnz for summary in summaries]
    return Description(
        name=config.name,
        format=plan.format,
        n_rows=(n_train, n_test),
        n_features=head.n_features,
        dtype=head.dtype.name,
        stored_bytes=stored_bytes,
        is_sparse=head.is_sparse,
        nnz=None if None in nnz else sum(count or 0 for count in nnz),
        is_estimate=any(summary.is_estimate for summary in summaries),
        files=tuple(map(str, plan.files)),
    )


def _open(
    config: DataSettings,
    data_dir: Path,
    comm: MPI.Comm,
    graph: GraphSettings,
    smooth: Smooth | None = None,
) -> _Plan:
    with agreement(comm):
        kind = format_of(config)
        split = _split_kind(config)
        if kind in GRAPH_FORMATS:
            table = open_graph(config, graph, data_dir, smooth)
            return _Plan(kind, split, (table,), table.files)
        parts = [(config.train, config.train_labels)]
        if split == "own":
            parts.append((config.test, config.test_labels))
        sources = tuple(
            open_source(
                kind,
                tuple(data_dir / name for name in names),
                data_dir / labels if labels else None,
                config,
            )
            for names, labels in parts
        )
        files = tuple(
            data_dir / name for names, labels in parts for name in (*names, labels) if name
        )
        _check_widths([source.summary for source in sources], config)
    return _Plan(kind, split, sources, files)


def _split_kind(config: DataSettings) -> str:
    if config.test_labels and not config.test:
        raise ConfigError("data.test_labels without data.test: name the test files, or neither")
    if config.split == "own" and not config.test:
        raise ConfigError("data.split = own needs data.test: name the test files")
    if config.split == "auto":
        return "own" if config.test else "stratified"
    if config.split != "own" and config.test:
        raise ConfigError(
            f"data.split = {config.split} and data.test contradict each other: leave one out"
        )
    return config.split


def _check_widths(summaries: Sequence[Summary], config: DataSettings) -> None:
    widths = {summary.n_features for summary in summaries}
    types = {summary.dtype for summary in summaries}
    # Sparse tables that only use few columns are widened to data.n_features.
    if len(widths) > 1 and not (summaries[0].is_sparse and config.n_features):
        train, test = (summary.n_features for summary in summaries)
        raise InputError(
            f"{', '.join(config.test)}: {test} features where the training rows of "
            f"{', '.join(config.train)} have {train}: both need the same columns"
        )
    if len(types) > 1:
        train_type, test_type = (summary.dtype for summary in summaries)
        raise InputError(
            f"{', '.join(config.test)}: features of type {test_type} where the training rows have "
            f"{train_type}: store both alike"
        )


def _check_same_on_all_ranks(summaries: Sequence[Summary], plan: _Plan, comm: MPI.Comm) -> None:
    mine = repr(summaries)
    first = comm.bcast(mine)
    with agreement(comm):
        if mine != first:
            listed = ", ".join(map(str, plan.files))
            raise InputError(f"{listed}: another content than on rank 0: give all nodes one copy")


def _encode_own(train: RawTable, test: RawTable, comm: MPI.Comm) -> tuple[Table, Table]:
    (train_codes, test_codes), names = encode_labels(train.labels, [test.labels], comm)
    if train.feature_names != test.feature_names:
        raise InputError(
            f"{test.source}: its columns differ from those of {train.source}: "
            "both need the same columns in the same order"
        )
    return (
        Table(train.rows, train_codes, train.start, train.n_rows, names, train.feature_names),
        Table(test.rows, test_codes, test.start, test.n_rows, names, test.feature_names),
    )


def _split(table: RawTable, kind: str, config: DataSettings, comm: MPI.Comm) -> tuple[Table, Table]:
    codes, names = table.labels.codes, table.labels.values
    if table.nodes is None:  # those of graphs are codes already
        (codes,), names = encode_labels(table.labels, [], comm)
    is_test = held_out_rows(
        kind,
        config.test_fraction,
        config.split_seed,
        codes,
        len(names),
        table.start,
        table.n_rows,
        comm,
    )
    trained = np.bincount(codes[~is_test], minlength=len(names))
    comm.Allreduce(MPI.IN_PLACE, trained)
    missing = [name for name, count in zip(names, trained, strict=True) if count == 0]
    if missing:
        raise InputError(
            f"{table.source}: data.split = {kind} leaves no training row of class "
            f"{', '.join(missing[:5])}: use data.split = stratified or another data.split_seed"
        )
    return (
        _part(table, codes, ~is_test, names, comm),
        _part(table, codes, is_test, names, comm),
    )


def _part(
    table: RawTable,
    codes: NDArray[np.int64],
    keep: NDArray[np.bool_],
    names: tuple[str, ...],
    comm: MPI.Comm,
) -> Table:
    start, n_rows = place_rows(int(np.count_nonzero(keep)), comm)
    nodes = None if table.nodes is None else table.nodes.of(keep)
    return Table(table.rows[keep], codes[keep], start, n_rows, names, table.feature_names, nodes)
