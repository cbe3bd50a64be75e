"""File formats: one entry for each value of ``data.format``, with its endings and its opener.

Jobs, prediction input and streamed rows (:func:`hpcembed.open_rows`) open their files through this
registry; streamed Parquet files are opened by :mod:`hpcembed.data.row_stream`. To add a format:

1. Write its reader in ``arrays/``, ``tables/`` or ``text/``. An array of numbers needs a function
   ``(path, name of the array)`` that returns a
   :class:`~hpcembed.data.arrays.stored_array.RowBlocks`; any other table needs a class with the
   methods of :class:`~hpcembed.data.table.Source`.
2. Add an entry to :data:`FORMATS` below: opener, endings of file names, place of the labels.
3. Add its name to the values of ``DataSettings.format`` in ``settings.py``.

Formats of graphs are in :mod:`hpcembed.data.graphs.formats`; those of documents are listed here and
in :mod:`hpcembed.data.text.formats`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from hpcembed.data.arrays.archives import HDF5_FILES, MATLAB_FILES, NPZ_FILES, Archive
from hpcembed.data.arrays.array_names import StatedNames
from hpcembed.data.arrays.array_source import ArraySource
from hpcembed.data.arrays.cifar10 import Cifar10Source
from hpcembed.data.arrays.hdf5 import open_hdf5
from hpcembed.data.arrays.idx import open_idx
from hpcembed.data.arrays.numpy_files import open_npy, open_npz
from hpcembed.data.arrays.stored_array import RowBlocks
from hpcembed.data.bundled import BUNDLED, BundledSource
from hpcembed.data.columns.options import column_options
from hpcembed.data.images.image_files import (
    IMAGE_ENDINGS,
    holds_images,
    list_images,
    own_folders,
)
from hpcembed.data.images.image_labels import ImageLabels, open_image_labels
from hpcembed.data.images.image_source import ImageSource
from hpcembed.data.label_files import open_labels
from hpcembed.data.labels import LabelFile
from hpcembed.data.settings import DataSettings
from hpcembed.data.table import Source
from hpcembed.data.tables.arrow_table import ArrowSource, arrow_column_names
from hpcembed.data.tables.csv_header import read_header
from hpcembed.data.tables.csv_table import CsvSource
from hpcembed.data.tables.matrix_market import MatrixMarketSource
from hpcembed.data.tables.svmlight import SvmlightSource
from hpcembed.data.text.formats import TEXT_FORMATS, open_text
from hpcembed.runtime.errors import ConfigError

__all__ = [
    "FORMATS",
    "Format",
    "OwnSplit",
    "format_of",
    "format_of_name",
    "open_input",
    "open_source",
]

Paths = tuple[Path, ...]
#: An opened file of labels; True: the labels are in the same files as the rows; None: no labels.
Labels = LabelFile | ImageLabels | bool | None
ArrayOpener = Callable[[Path, str], RowBlocks]


@dataclass(frozen=True, slots=True)
class OwnSplit:
    """Training and test rows that are in the same file or folder.

    Attributes
    ----------
    train, test : tuple of Path
    test_config : DataSettings
        Settings with which the test rows are read.
    """

    train: Paths
    test: Paths
    test_config: DataSettings


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    Attributes
    ----------
    open : callable
        ``open(paths, labels, config)`` returns a :class:`~hpcembed.data.table.Source`.
    endings : tuple of str
        Endings of file names for ``data.format = auto``.
    has_labels : callable or None
        ``has_labels(path, config)``: whether a file contains labels. None: labels are in a file of
        their own.
    open_array : callable, optional
        ``open_array(path, name)``, for arrays of numbers.
    open_labels : callable, optional
        ``open_labels(path, column)`` for labels in a file of their own, which formats with
        `has_labels` may have too; None: their labels are always in the same file.
    own_split : callable, optional
        ``own_split(path, config)``: training and test rows of one file or folder, or None.
    """

    open: Callable[[Paths, Labels, DataSettings], Source]
    endings: tuple[str, ...] = ()
    has_labels: Callable[[Path, DataSettings], bool] | None = lambda path, config: True
    open_array: ArrayOpener | None = None
    open_labels: Callable[[Path, str], LabelFile | ImageLabels] | None = None
    own_split: Callable[[Path, DataSettings], OwnSplit | None] | None = None


def _arrays(
    open_array: Callable[[Path], RowBlocks], endings: tuple[str, ...], *, are_windows: bool = False
) -> Format:
    def open_files(paths: Paths, labels: Labels, config: DataSettings) -> Source:
        assert not isinstance(labels, bool | ImageLabels)  # in a file of their own
        return ArraySource([open_array(path) for path in paths], labels, are_windows=are_windows)

    return Format(open_files, endings, None, lambda path, _: open_array(path), open_labels)


def _archives(
    archive: Archive, endings: tuple[str, ...], open_array: ArrayOpener | None = None
) -> Format:
    def open_files(paths: Paths, labels: Labels, config: DataSettings) -> Source:
        assert not isinstance(labels, ImageLabels)
        return archive.open(paths, labels, _stated(config))

    def has_labels(path: Path, config: DataSettings) -> bool:
        return bool(archive.names(path, _stated(config)).labels)

    def own_split(path: Path, config: DataSettings) -> OwnSplit | None:
        names = archive.names(path, _stated(config))
        if not names.test_features:
            return None
        keys = {"features_key": names.test_features, "labels_key": names.test_labels}
        test_config = msgspec.structs.replace(
            config, **keys, test_features_key="", test_labels_key=""
        )
        return OwnSplit((path,), (path,), test_config)

    return Format(open_files, endings, has_labels, open_array, open_labels, own_split)


def _stated(config: DataSettings) -> StatedNames:
    return StatedNames(
        config.features_key, config.labels_key, config.test_features_key, config.test_labels_key
    )


def _open_images(paths: Paths, labels: Labels, config: DataSettings) -> Source:
    assert labels is None or isinstance(labels, bool | ImageLabels)
    return ImageSource(paths, labels, image_size=config.image_size, image_mode=config.image_mode)


def _own_image_folders(path: Path, config: DataSettings) -> OwnSplit | None:
    folders = own_folders(path)
    return folders and OwnSplit((folders[0],), (folders[1],), config)


def _open_csv(paths: Paths, labels: Labels, config: DataSettings) -> Source:
    label_column = config.label_column if labels else None
    return CsvSource(paths, label_column, config.delimiter, column_options(config))


def _open_arrow(kind: str, paths: Paths, labels: Labels, config: DataSettings) -> Source:
    label_column = config.label_column if labels else None
    return ArrowSource(paths, kind, label_column, column_options(config))


def _arrow_files(kind: str, endings: tuple[str, ...]) -> Format:
    def has_label_column(path: Path, config: DataSettings) -> bool:
        return config.label_column in arrow_column_names(path, kind)

    return Format(partial(_open_arrow, kind), endings, has_label_column)


def _has_label_column(path: Path, config: DataSettings) -> bool:
    return config.label_column in read_header(path, None, config.delimiter).names


def _open_matrix_market(paths: Paths, labels: Labels, config: DataSettings) -> Source:
    if len(paths) > 1:
        raise ConfigError("data.format = matrix_market reads one file: name one")
    assert not isinstance(labels, bool | ImageLabels)  # in a file of their own
    return MatrixMarketSource(paths[0], labels, config.index_base)


def _open_bundled(name: str, paths: Paths, labels: Labels, config: DataSettings) -> Source:
    return BundledSource(name)


def _open_documents(kind: str, paths: Paths, labels: Labels, config: DataSettings) -> Source:
    return open_text(kind, paths, config)


_TEXT_ENDINGS = {"text_tar": (".tar", ".tgz")}

#: The formats by their value of ``data.format``.
FORMATS = {
    "npy": _arrays(open_npy, (".npy",), are_windows=True),
    "npz": _archives(NPZ_FILES, (".npz",), open_npz),
    "hdf5": _archives(HDF5_FILES, (".h5", ".hdf5", ".hdf", ".h5ad"), open_hdf5),
    "mat": _archives(MATLAB_FILES, (".mat",)),
    "idx": _arrays(open_idx, (".idx",)),
    "images": Format(
        _open_images,
        IMAGE_ENDINGS,
        lambda path, config: any(image.folder for image in list_images([path])),
        open_labels=open_image_labels,
        own_split=_own_image_folders,
    ),
    "cifar10": Format(lambda paths, labels, config: Cifar10Source(paths), (".bin",)),
    "csv": Format(_open_csv, (".csv", ".tsv", ".txt", ".data"), _has_label_column),
    "parquet": _arrow_files("parquet", (".parquet", ".pq")),
    "arrow": _arrow_files("arrow", (".arrow", ".feather", ".ipc")),
    "svmlight": Format(
        lambda paths, labels, config: SvmlightSource(paths), (".svm", ".svmlight", ".libsvm")
    ),
    "matrix_market": Format(_open_matrix_market, (".mtx", ".mm"), None, None, open_labels),
    **{name: Format(partial(_open_bundled, name)) for name in BUNDLED},
    **{
        kind: Format(partial(_open_documents, kind), _TEXT_ENDINGS.get(kind, ()))
        for kind in TEXT_FORMATS
    },
}

_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
_BY_ENDING = {ending: kind for kind, format in FORMATS.items() for ending in format.endings}
_IDX_NAME = re.compile(r"[-.]idx\d+[-.]\w+$")


def format_of_name(name: str) -> str | None:
    """Return the format of a file by the ending of its name, None for an unknown ending.

    Examples
    --------
    >>> format_of_name("rows.CSV.gz"), format_of_name("train-images-idx3-ubyte")
    ('csv', 'idx')
    """
    name = name.lower().removesuffix(".gz")
    return "idx" if _IDX_NAME.search(name) else _BY_ENDING.get(Path(name).suffix)


def format_of(config: DataSettings, data_dir: Path = Path()) -> str:
    """Return the format of the files of a configuration.

    Parameters
    ----------
    config : DataSettings
    data_dir : Path
        Folder to which its paths are relative: folders are searched for images.

    Raises
    ------
    ConfigError
        No file is named, a file is named for a format without files, or the ending is unknown.

    Examples
    --------
    >>> format_of(DataSettings(train=("rows.csv",)))
    'csv'
    """
    named = {
        "train": config.train,
        "train_labels": config.train_labels,
        "test": config.test,
        "test_labels": config.test_labels,
    }
    superfluous = [f"data.{key}" for key, files in named.items() if files]
    if config.format in ("digits", "diabetes", "power_law"):
        if superfluous:
            raise ConfigError(
                f"data.format = {config.format} reads no files: leave {superfluous[0]} out"
            )
        return config.format
    if not config.train:
        if config.format == "auto" and config.name == "digits" and not superfluous:
            return "digits"
        raise ConfigError("data.train is empty: name the training file")
    if config.format != "auto":
        return config.format
    kind = format_of_name(config.train[0])
    if holds_images(data_dir / config.train[0]):
        kind = "images"
    if kind is None:
        raise ConfigError(_unknown_ending(data_dir / config.train[0]))
    return "text_csv" if kind == "csv" and config.text_column else kind


def _unknown_ending(path: Path) -> str:
    if path.is_dir() and not any(path.iterdir()):
        return f"{path}: the folder is empty"
    if path.suffix.lower() in _SPREADSHEETS:
        return f"{path}: a spreadsheet: save it as CSV or Parquet"
    return f"data.format = auto: the ending of {path.name} is unknown: set data.format"


def open_source(kind: str, paths: Paths, labels: Path | None, config: DataSettings) -> Source:
    """Open the files of a table with labels: headers are read and checked.

    Parameters
    ----------
    kind : str
        The format, a key of :data:`FORMATS`.
    paths : tuple of Path
    labels : Path or None
        File of labels, for formats whose labels are in a file of their own.
    config : DataSettings
        Names of columns and arrays.

    Raises
    ------
    ConfigError
        A file of labels is missing or superfluous, or one file too many is named.
    InputError
        A file is missing, or its header is wrong.
    """
    format = FORMATS[kind]
    if labels is not None and (
        format.open_labels is None
        or (kind != "images" and format.has_labels and format.has_labels(paths[0], config))
    ):
        raise ConfigError(
            f"files of data.format = {kind} contain the labels: remove data.train_labels and "
            "data.test_labels"
        )
    if format.has_labels is not None and labels is None:
        return format.open(paths, True, config)
    if labels is None:
        raise ConfigError(
            f"files of data.format = {kind} contain no labels: set data.train_labels (and "
            "data.test_labels)"
        )
    assert format.open_labels is not None  # its labels may be in a file of their own
    return format.open(paths, format.open_labels(labels, config.label_column), config)


def open_input(path: Path, labels: Path | None, config: DataSettings) -> tuple[Source, bool]:
    """Open one file of prediction input: its labels are optional.

    Parameters
    ----------
    path, labels, config
        As for :func:`open_source`; the files of `config` are ignored.

    Returns
    -------
    source : Source
    has_labels : bool

    Raises
    ------
    ConfigError, InputError
        As :func:`open_source`.
    """
    kind = format_of(msgspec.structs.replace(config, train=(str(path),), train_labels=""))
    if labels is not None:
        return open_source(kind, (path,), labels, config), True
    if kind in TEXT_FORMATS or kind not in FORMATS:
        raise ConfigError(f"data.format = {kind}: name a format of tables for {path}")
    format = FORMATS[kind]
    has_labels = format.has_labels is not None and format.has_labels(path, config)
    # Images outside of sub-folders have no label, those beside them have one.
    is_required = has_labels and kind != "images"
    return format.open((path,), is_required or None, config), has_labels
