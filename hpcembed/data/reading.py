"""Reading of a job's data set: files to tables, in the formats of the section [data].

Every phase that may fail on one rank alone ends with an agreement of all ranks. Headers are read
first: their contents are compared between ranks and with the available memory before a row is
read. :func:`read_tables` returns the rows as they are in the files; a caller may transform them
before :func:`~hpcembed.data.dataset.make_dataset` splits and scales them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec
from mpi4py import MPI

from hpcembed.data.columns.raw_columns import RawColumns, TextColumn
from hpcembed.data.columns.superfluous import superfluous_columns, superfluous_line
from hpcembed.data.dataset import Dataset, make_dataset
from hpcembed.data.file_validation import MissingFileError, file_size
from hpcembed.data.formats import FORMATS, OwnSplit, format_of, open_source
from hpcembed.data.graphs.node_table import open_graph
from hpcembed.data.settings import GRAPH_FORMATS, DataSettings, GraphSettings
from hpcembed.data.table import Source, Table
from hpcembed.data.tables.arrow_table import ArrowSource
from hpcembed.data.tables.csv_table import CsvSource
from hpcembed.data.tables.sparse_columns import align_columns
from hpcembed.data.text.folders_and_archives import folder_size
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.machine.memory import available_per_rank, check_fits

__all__ = ["Description", "describe_dataset", "read_dataset", "read_tables"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Description:
    """Contents of the headers of a data set.

    Attributes
    ----------
    name, format : str
    n_rows : tuple of (int or None)
        Training and test rows; None if they are unknown before the file is read.
    n_features : int or None
    dtype : str
        Type of the rows in memory.
    stored_bytes : int
        Size of the files on disk.
    is_sparse : bool
    nnz : int or None
        Stored entries of all rows, for sparse formats that declare them.
    is_estimate : bool
        The numbers of rows are extrapolated from the beginning of a text file.
    files : tuple of str
    """

    name: str
    format: str
    n_rows: tuple[int | None, int | None]
    n_features: int | None
    dtype: str
    stored_bytes: int
    is_sparse: bool
    nnz: int | None
    is_estimate: bool
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Opened:
    """Opened sources: training and test rows, or all rows that are to be split."""

    format: str
    sources: tuple[Source, ...]
    files: tuple[Path, ...]


def read_dataset(
    config: DataSettings,
    data_dir: Path,
    comm: MPI.Comm,
    *,
    available_bytes: int | None = None,
) -> Dataset:
    """Read, split and encode a labelled data set; each rank holds a consecutive share of the rows.

    Collective. Parameters and errors are the same as for :func:`read_tables` and
    :func:`~hpcembed.data.dataset.make_dataset`.

    Examples
    --------
    >>> from pathlib import Path
    >>> from mpi4py import MPI
    >>> from hpcembed.data.settings import DataSettings
    >>> data = read_dataset(DataSettings(name="digits"), Path(), MPI.COMM_SELF)
    >>> data.train.rows.shape, data.test.rows.shape
    ((1438, 64), (359, 64))
    """
    if available_bytes is None:
        available_bytes = available_per_rank(comm)
    tables = read_tables(config, data_dir, comm, available_bytes=available_bytes)
    return make_dataset(tables, config, comm, available_bytes=available_bytes)


def read_tables(
    config: DataSettings,
    data_dir: Path,
    comm: MPI.Comm,
    *,
    available_bytes: int | None = None,
    graph: GraphSettings | None = None,
) -> tuple[Table, ...]:
    """Read the rows of a data set as they are in the files; each rank reads a consecutive share.

    Collective.

    Parameters
    ----------
    config : DataSettings
        Format, files and labels.
    data_dir : Path
        Folder to which the paths in `config` are relative.
    comm : MPI.Comm
        If there are more ranks than rows, some ranks hold no row.
    available_bytes : int, optional
        Memory of a rank; by default the memory that is available on the machine.
    graph : GraphSettings, optional
        For the formats of graphs.

    Returns
    -------
    tuple of Table
        Training and test rows, or one table if the rows are to be split.

    Raises
    ------
    InputError
        The data cannot be used: one line with file, place and remedy, on all ranks.
    MemoryLimitError
        A rank's share does not fit; raised before anything large is allocated.
    ConfigError
        The configuration contradicts itself.
    """
    opened = _open(config, data_dir, comm, graph)
    _check_same_on_all_ranks(opened, comm)
    needed = sum(source.measure(comm) for source in opened.sources)
    if len(opened.sources) == 1:
        needed *= 2  # a split copies the rows into two tables
    if available_bytes is None:
        available_bytes = available_per_rank(comm)
    listed = ", ".join(str(path) for path in opened.files[:3]) or opened.format
    check_fits(needed, available_bytes, f"reading {listed}", "use more ranks or compute nodes")
    tables = [opened.sources[0].read(comm)]
    if isinstance(opened.sources[0], CsvSource | ArrowSource):
        _name_superfluous(tables[0], comm)
    tables += [_read_like(tables[0], source, comm) for source in opened.sources[1:]]
    return align_columns(tables, config.n_features, comm, config.index_base)


def _name_superfluous(table: Table, comm: MPI.Comm) -> None:
    """Log the columns of a table of numbers that carry no information. Collective."""
    if isinstance(table.rows, RawColumns):
        return  # such columns are left out, and named
    line = superfluous_line(superfluous_columns(table.rows, table.feature_names, comm))
    if line and comm.rank == 0:
        _log.info("%s: %s", table.source, line)


def describe_dataset(
    config: DataSettings, data_dir: Path, comm: MPI.Comm, graph: GraphSettings | None = None
) -> Description:
    """Describe a data set by the headers of its files; no rows are read.

    Collective. If rows are to be held out, their number is `test_fraction` of all; a stratified
    split differs from it by at most one row per class.

    Raises
    ------
    InputError, ConfigError
        As :func:`read_tables`, if the headers show the error.

    Examples
    --------
    >>> from pathlib import Path
    >>> from mpi4py import MPI
    >>> from hpcembed.data.settings import DataSettings
    >>> about = describe_dataset(DataSettings(name="digits"), Path(), MPI.COMM_SELF)
    >>> about.n_rows, about.n_features, about.dtype
    ((1438, 359), 64, 'uint8')
    """
    opened = _open(config, data_dir, comm, graph)
    summaries = [source.summary for source in opened.sources]
    head = summaries[0]
    with agreement(comm):
        stored_bytes = sum(
            folder_size(path) if path.is_dir() else file_size(path) for path in opened.files
        )
    n_train: int | None = head.n_rows
    n_test: int | None = summaries[-1].n_rows
    if len(summaries) == 1 and n_train is not None:
        n_test = round(config.test_fraction * n_train)
        n_train -= n_test
    nnz = [summary.nnz for summary in summaries]
    return Description(
        name=config.name,
        format=opened.format,
        n_rows=(n_train, n_test),
        n_features=head.n_features,
        dtype=head.dtype.name,
        stored_bytes=stored_bytes,
        is_sparse=head.is_sparse,
        nnz=None if None in nnz else sum(count or 0 for count in nnz),
        is_estimate=any(summary.is_estimate for summary in summaries),
        files=tuple(map(str, opened.files)),
    )


def _read_like(first: Table, source: Source, comm: MPI.Comm) -> Table:
    """Read test rows: a column that is text in the training rows is text. Collective."""
    if not (isinstance(source, CsvSource) and isinstance(first.rows, RawColumns)):
        return source.read(comm)
    columns = zip(first.rows.names, first.rows.columns, strict=True)
    return source.read_columns(comm, [n for n, one in columns if isinstance(one, TextColumn)])


def _open(
    config: DataSettings, data_dir: Path, comm: MPI.Comm, graph: GraphSettings | None
) -> _Opened:
    with agreement(comm):
        try:
            return _opened(config, data_dir, graph)
        except MissingFileError as error:
            raise InputError(
                f"{error}; paths in [data] of a job are relative to --data-dir"
            ) from error


def _opened(config: DataSettings, data_dir: Path, graph: GraphSettings | None) -> _Opened:
    kind = format_of(config, data_dir)
    _check_split(config)
    if kind in GRAPH_FORMATS:
        table = open_graph(config, graph or GraphSettings(), data_dir)
        return _Opened(kind, (table,), table.files)
    paths = tuple(data_dir / name for name in config.train)
    labels = data_dir / config.train_labels if config.train_labels else None
    split = _own_split(kind, paths, config, data_dir)
    train = open_source(kind, split.train if split else paths, labels, config)
    files = [*paths, *([labels] if labels else [])]
    if split is None:
        return _Opened(kind, (train,), tuple(files))
    # Test images have the mode of the training images.
    mode = getattr(train, "reading", {}).get("image_mode", config.image_mode)
    test_config = msgspec.structs.replace(split.test_config, image_mode=mode)
    test_labels = data_dir / config.test_labels if config.test_labels else None
    test = open_source(kind, split.test, test_labels, test_config)
    _check_widths(train, test, split, config)
    if config.test:
        files += [*split.test, *([test_labels] if test_labels else [])]
    return _Opened(kind, (train, test), tuple(files))


def _own_split(
    kind: str, paths: tuple[Path, ...], config: DataSettings, data_dir: Path
) -> OwnSplit | None:
    """Return the files of training and test rows, None if test rows are to be held out."""
    if config.test:
        return OwnSplit(paths, tuple(data_dir / name for name in config.test), config)
    find = FORMATS[kind].own_split
    if find is not None and len(paths) == 1 and config.split in ("auto", "own"):
        split = find(paths[0], config)
        if split is not None and not config.train_labels:
            return split
    if config.split == "own":
        raise ConfigError("data.split = own needs data.test: name the test files")
    return None


def _check_split(config: DataSettings) -> None:
    """Raise ConfigError if the keys of [data] contradict each other."""
    if config.test_labels and not config.test:
        raise ConfigError("data.test_labels without data.test: name the test files, or neither")
    if config.split not in ("auto", "own") and config.test:
        raise ConfigError(
            f"data.split = {config.split} and data.test contradict each other: leave one out"
        )


def _check_widths(
    train_source: Source, test_source: Source, split: OwnSplit, config: DataSettings
) -> None:
    train, test = train_source.summary, test_source.summary
    train_name, test_name = (", ".join(map(str, paths)) for paths in (split.train, split.test))
    if train_name == test_name:
        test_name += ", test rows"
    shapes = [getattr(source, "row_shape", ()) for source in (train_source, test_source)]
    if train.n_features == test.n_features and all(shapes) and shapes[0] != shapes[1]:
        shown = [" x ".join(map(str, shape)) for shape in shapes]
        raise InputError(
            f"{test_name}: rows of shape {shown[1]} where the training rows of {train_name} have "
            f"{shown[0]}: both need the same shape"
        )
    # Sparse tables that use fewer columns are widened to data.n_features.
    if train.n_features != test.n_features and not (train.is_sparse and config.n_features):
        raise InputError(
            f"{test_name}: {test.n_features} features where the training rows of "
            f"{train_name} have {train.n_features}: both need the same columns"
        )
    if train.dtype != test.dtype:
        raise InputError(
            f"{test_name}: features of type {test.dtype} where the training rows have "
            f"{train.dtype}: store both alike"
        )


def _check_same_on_all_ranks(opened: _Opened, comm: MPI.Comm) -> None:
    mine = repr([source.summary for source in opened.sources])
    first = comm.bcast(mine)
    with agreement(comm):
        if mine != first:
            listed = ", ".join(map(str, opened.files))
            raise InputError(
                f"{listed}: the contents differ from those on rank 0: give all compute nodes "
                "the same files"
            )
