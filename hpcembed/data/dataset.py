"""Dataset: training and test tables that share classes and features, and their scaling.

:func:`make_dataset` is the step from tables as they were read to a data set: labels are encoded
over all ranks, rows are split, texts become rows of weighted terms, and the scaling is computed
from the training rows.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI

from hpcembed.data.columns.encoded_tables import (
    encode_tables,
    holds_columns,
    scan_training_table,
)
from hpcembed.data.columns.encoding import ColumnEncoding
from hpcembed.data.columns.kinds import prefers_comma
from hpcembed.data.columns.options import column_options
from hpcembed.data.labels import LocalLabels, LocalTargets, as_classes, encode_labels
from hpcembed.data.number_text import NumberStyle
from hpcembed.data.scaling import Scaling, fit_scaling
from hpcembed.data.settings import DataSettings
from hpcembed.data.splits import held_out_rows
from hpcembed.data.table import Table
from hpcembed.data.targets import (
    STYLES,
    Task,
    as_targets,
    check_variation,
    choose_task,
    target_style,
)
from hpcembed.data.text.document_term_tables import vectorise_tables
from hpcembed.data.text.vectoriser import Vectoriser
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.machine.memory import available_per_rank, check_fits
from hpcembed.runtime.ranks import place_rows

__all__ = ["Dataset", "make_dataset"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Training and test tables, which share features and classes, and the scaling.

    Attributes
    ----------
    name : str
    train, test : Table
        Labels are encoded, or targets of a regression; rows are not scaled.
    scaling : Scaling
        Computed from the training rows.
    vectoriser : Vectoriser, optional
        Turns new texts into rows; None if the data is not text.
    encoding : ColumnEncoding, optional
        Turns raw columns into rows; None if the data is an array of numbers.
    task_reason : str
        Reason of the choice of the task.
    """

    name: str
    train: Table
    test: Table
    scaling: Scaling
    vectoriser: Vectoriser | None = None
    encoding: ColumnEncoding | None = None
    task_reason: str = ""

    @property
    def task(self) -> Task:
        """Classification or regression."""
        return "regression" if isinstance(self.train.labels, LocalTargets) else "classification"

    @property
    def has_labels(self) -> bool:
        """Whether the rows have labels: the nodes of a graph may have none."""
        return self.task == "regression" or len(self.train.class_names) > 1


def make_dataset(
    tables: Sequence[Table],
    config: DataSettings,
    comm: MPI.Comm,
    *,
    available_bytes: int | None = None,
    reproducible: bool = False,
) -> Dataset:
    """Encode labels, split the rows, vectorise texts, encode raw columns, and compute the scaling.

    Collective.

    Labels become class codes or targets (:func:`hpcembed.data.targets.choose_task`).

    Parameters
    ----------
    tables : sequence of Table
        As read: training and test rows, or one table that is to be split.
    config : DataSettings
        Split, vocabulary and weighting of texts, scaling.
    comm : MPI.Comm
    available_bytes : int, optional
        Memory of a rank; by default the memory that is available on the machine.
    reproducible : bool
        Compute the scaling with the same bits on any number of ranks.

    Raises
    ------
    InputError, MemoryLimitError, ConfigError
        One line, on all ranks.

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> from hpcembed.data.labels import labels_from_text
    >>> from hpcembed.data.settings import DataSettings
    >>> from hpcembed.data.table import Table
    >>> labels = labels_from_text(["a", "b"] * 5, "example", 0)
    >>> table = Table(np.arange(10.0).reshape(10, 1), labels, 0, 10, (), "example")
    >>> data = make_dataset([table], DataSettings(test_fraction=0.4), MPI.COMM_SELF)
    >>> data.train.n_rows, data.test.n_rows, data.train.class_names
    (6, 4, ('a', 'b'))
    """
    if available_bytes is None:
        available_bytes = available_per_rank(comm)
    if tables[0].n_rows < 2:
        raise InputError(f"{tables[0].source}: one row: give more rows to learn from")
    _check_names(tables[0])
    scanned, comma = None, None
    if any(map(holds_columns, tables)):
        scanned = scan_training_table(tables[0], column_options(config), comm)
        comma = prefers_comma(scanned.summaries)
    tables, task, reason = _task(tables, config, comm, comma)
    if task == "regression":
        train, test = _split_targets(tables, config, comm)
    elif len(tables) == 2:
        train, test = _encode(tables[0], tables[1], comm)
    else:
        train, test = _split(tables[0], config, comm)
    vectoriser = encoding = None
    if comm.rank == 0:
        _report_combined_classes(train)
    if scanned is not None:
        train, test, encoding = encode_tables(scanned, train, test, comm, available_bytes)
    elif train.rows.dtype == object:
        train, test, vectoriser = vectorise_tables(train, test, config, comm, available_bytes)
    # The width of a sparse file is known only now; the scaling takes some vectors of this length.
    width = train.rows.shape[1]
    check_fits(64 * width, available_bytes, f"{train.source}: {width} features", "check the file")
    kind = config.scaling
    if kind == "auto":
        kind = "none" if encoding is None else "standard"
    scaling = fit_scaling(
        kind, config.divisor, train.rows, train.n_rows, comm, reproducible=reproducible
    )
    return Dataset(config.name, train, test, scaling, vectoriser, encoding, reason)


def _task(
    tables: Sequence[Table], config: DataSettings, comm: MPI.Comm, comma: bool | None
) -> tuple[Sequence[Table], Task, str]:
    """Choose the task, and check the settings that it excludes; read targets. Collective."""
    style: NumberStyle = "plain"
    if tables[0].nodes is not None:  # labels of graph nodes are classes
        task: Task = "classification"
        reason = "labels of graph nodes"
    else:
        first = tables[0]
        style = target_style(
            first.labels, config.target_numbers, config.task, comm, start=first.start, comma=comma
        )
        task, reason = choose_task(first.labels, config.task, comm, style)
    if config.task == "regression" and task != config.task:
        raise ConfigError('data.task = "regression": labels of graph nodes are classes')
    if task == "regression" and config.split == "stratified":
        raise ConfigError('data.split = "stratified" needs classes: use "random" for regression')
    if task == "regression" and config.relevance == "classes":
        raise ConfigError('data.relevance = "classes" needs classes: use "none" for regression')
    if task == "regression":
        tables = _with_targets(tables, style, comm)
    return tables, task, reason


def _with_targets(tables: Sequence[Table], style: NumberStyle, comm: MPI.Comm) -> list[Table]:
    """Replace labels by targets; tables remember how these are written. Collective."""
    found = {"target_numbers": next(name for name, one in STYLES.items() if one == style)}
    converted = list[Table]()
    with agreement(comm):
        converted = [
            replace(
                table,
                labels=as_targets(table.labels, table.start, style),
                reading={**table.reading, **found},
            )
            for table in tables
        ]
    return converted


def _split_targets(
    tables: Sequence[Table], config: DataSettings, comm: MPI.Comm
) -> tuple[Table, Table]:
    """Return training and test rows of a regression. Collective."""
    if len(tables) == 2:
        _check_columns(tables[0], tables[1])
        train, test = tables
    else:
        (table,) = tables
        kind = "random" if config.split == "auto" else config.split
        one_group = np.zeros(table.labels.n_rows, dtype=np.int64)
        is_test = held_out_rows(
            kind,
            config.test_fraction,
            config.split_seed,
            one_group,
            1,
            table.start,
            table.n_rows,
            comm,
        )
        train, test = table.select(~is_test, comm), table.select(is_test, comm)
    check_variation(as_targets(train.labels), comm)
    return train, test


def _report_combined_classes(train: Table) -> None:
    """Log a line if classes appear to be combinations of labels: "a;b" beside "a" and "b;c"."""
    names = train.class_names
    for separator in (";", "|"):
        combined = [name for name in names if separator in name]
        parts = Counter(part.strip() for name in names for part in name.split(separator))
        if combined and all(count > 1 for count in parts.values()):
            _log.warning(
                "%s: %d classes, as %r, appear to hold several labels for a row: each combination "
                "is a class of its own; for separate labels train one model for each of them",
                train.source, len(combined), combined[0],
            )  # fmt: skip
            return


def _check_names(table: Table) -> None:
    if len(set(table.feature_names)) < len(table.feature_names):
        repeated, _ = Counter(table.feature_names).most_common(1)[0]
        raise InputError(f"{table.source}: several columns are named {repeated!r}: rename them")


def _check_columns(train: Table, test: Table) -> None:
    if train.feature_names != test.feature_names:
        raise InputError(
            f"{test.source}: its columns differ from those of {train.source}: "
            "both need the same columns in the same order"
        )


def _classes(tables: Sequence[Table], comm: MPI.Comm) -> list[LocalLabels]:
    """Return labels that can be classes. Collective."""
    labels = list[LocalLabels]()
    with agreement(comm):
        labels = [as_classes(table.labels) for table in tables]
    return labels


def _encode(train: Table, test: Table, comm: MPI.Comm) -> tuple[Table, Table]:
    encoded = encode_labels(_classes([train, test], comm), comm)
    _check_columns(train, test)
    return replace(train, labels=encoded[0]), replace(test, labels=encoded[1])


def _split(table: Table, config: DataSettings, comm: MPI.Comm) -> tuple[Table, Table]:
    """Encode the labels of a table and split its labelled rows. Collective."""
    if table.nodes is None:  # labels of graph nodes are encoded when the graph is read
        table = replace(table, labels=encode_labels(_classes([table], comm), comm)[0])
    codes, names = as_classes(table.labels).codes, table.class_names
    labelled = codes >= 0
    start, n_rows = place_rows(int(np.count_nonzero(labelled)), comm)
    kind = "stratified" if config.split == "auto" else config.split
    is_test = np.zeros(codes.size, dtype=bool)
    is_test[labelled] = held_out_rows(
        kind,
        config.test_fraction,
        config.split_seed,
        codes[labelled],
        len(names),
        start,
        n_rows,
        comm,
    )
    is_train = labelled & ~is_test
    trained = np.bincount(codes[is_train], minlength=len(names))
    comm.Allreduce(MPI.IN_PLACE, trained)
    missing = [name for name, count in zip(names, trained, strict=True) if count == 0]
    if missing:
        raise InputError(
            f"{table.source}: data.split = {kind} leaves no training row of class "
            f"{', '.join(missing[:5])}: use data.split = stratified or another data.split_seed"
        )
    return table.select(is_train, comm), table.select(is_test, comm)
