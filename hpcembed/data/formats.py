"""Which reader a configuration asks for: by ``data.format`` or by the file's ending."""

from __future__ import annotations

import re
from pathlib import Path

from hpcembed.data.arrays.cifar10 import CifarTable
from hpcembed.data.arrays.hdf5 import open_hdf5
from hpcembed.data.arrays.idx import open_idx
from hpcembed.data.arrays.numpy_files import open_npy, open_npz
from hpcembed.data.arrays.stored_array import ArrayTable, LabelFile
from hpcembed.data.dataset import Source
from hpcembed.data.digits import DigitsTable
from hpcembed.data.label_files import open_labels
from hpcembed.data.settings import DataSettings
from hpcembed.data.tables.csv_table import CsvTable
from hpcembed.data.tables.matrix_market import MatrixMarketTable
from hpcembed.data.tables.svmlight import SvmlightTable
from hpcembed.data.text.formats import TEXT_FORMATS, open_text
from hpcembed.runtime.errors import ConfigError

__all__ = ["format_of", "open_source"]

_ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".data": "csv",
    ".npz": "npz",
    ".npy": "npy",
    ".mtx": "matrix_market",
    ".mm": "matrix_market",
    ".svm": "svmlight",
    ".svmlight": "svmlight",
    ".libsvm": "svmlight",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".idx": "idx",
    ".bin": "cifar10",
    ".tar": "text_tar",
    ".tgz": "text_tar",
}
_LABELS_APART = ("idx", "npy", "matrix_market")
_IDX_NAME = re.compile(r"[-.]idx\d+[-.]\w+$")


def format_of(config: DataSettings) -> str:
    """The format that a configuration means. Not collective.

    Raises
    ------
    ConfigError
        When no file is named, or its ending tells nothing.
    """
    named = {
        "train": config.train,
        "train_labels": config.train_labels,
        "test": config.test,
        "test_labels": config.test_labels,
    }
    superfluous = [f"data.{key}" for key, files in named.items() if files]
    if config.format == "digits" and superfluous:
        raise ConfigError(f"data.format = digits reads no files: leave {superfluous[0]} out")
    if config.format == "power_law":
        if superfluous:
            raise ConfigError(f"data.format = power_law reads no files: leave {superfluous[0]} out")
        return "power_law"
    if not config.train:
        is_digits = config.format == "auto" and config.name == "digits" and not superfluous
        if config.format == "digits" or is_digits:
            return "digits"
        raise ConfigError("data.train is empty: name the training file")
    if config.format != "auto":
        return config.format
    name = config.train[0].lower().removesuffix(".gz")
    if _IDX_NAME.search(name):
        return "idx"
    kind = _ENDINGS.get(Path(name).suffix)
    if kind == "csv" and config.text_column:
        return "text_csv"
    if kind is None:
        raise ConfigError(
            f"data.format = auto: the ending of {config.train[0]} tells nothing: set data.format"
        )
    return kind


def open_source(
    kind: str, paths: tuple[Path, ...], labels: Path | None, config: DataSettings
) -> Source:
    """Open the files of one table: headers are read and checked. Not collective.

    Raises
    ------
    ConfigError
        When a file of labels is missing or superfluous, or one file too many is named.
    InputError
        When a file is missing or its header is wrong.
    """
    if kind in _LABELS_APART:
        if labels is None:
            raise ConfigError(
                f"data.format = {kind} has no labels in the file: set data.train_labels (and "
                "data.test_labels)"
            )
        return _open_apart(kind, paths, open_labels(labels, config.label_column))
    if labels is not None:
        raise ConfigError(
            f"data.format = {kind} has the labels in the file: leave data.train_labels and "
            "data.test_labels out"
        )
    if kind in TEXT_FORMATS:
        return open_text(kind, paths, config)
    if kind == "digits":
        return DigitsTable()
    if kind == "cifar10":
        return CifarTable(paths)
    if kind == "csv":
        return CsvTable(paths, config.label_column, config.delimiter)
    if kind == "svmlight":
        return SvmlightTable(paths)
    if kind == "npz":
        return ArrayTable(
            [open_npz(path, config.features_key) for path in paths],
            [open_npz(path, config.labels_key) for path in paths],
        )
    return ArrayTable(
        [open_hdf5(path, config.features_key) for path in paths],
        [open_hdf5(path, config.labels_key) for path in paths],
    )


def _open_apart(kind: str, paths: tuple[Path, ...], labels: LabelFile) -> Source:
    if kind == "matrix_market":
        if len(paths) > 1:
            raise ConfigError("data.format = matrix_market reads one file: name one")
        return MatrixMarketTable(paths[0], labels)
    opener = open_idx if kind == "idx" else open_npy
    return ArrayTable([opener(path) for path in paths], labels)
