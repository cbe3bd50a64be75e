"""Settings of [data] for one data file or folder: format, columns or arrays of rows and labels.

A name decides the format; headers and the first lines decide the rest. Every choice that the user
should check is explained in a note.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hpcembed.data.arrays.hdf5 import open_hdf5
from hpcembed.data.arrays.hdf5_heaps import check_heaps
from hpcembed.data.arrays.numpy_files import npz_names, open_npz
from hpcembed.data.arrays.stored_array import RowBlocks
from hpcembed.data.file_validation import library_errors, named_errors, open_stream
from hpcembed.data.formats import FORMATS, format_of_name
from hpcembed.data.labels import is_number
from hpcembed.data.number_text import are_numbers
from hpcembed.data.tables.arrow_table import arrow_column_names
from hpcembed.data.tables.csv_header import CsvHeader, read_header
from hpcembed.data.targets import FEW_VALUES
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["Finding", "inspect_data"]

#: Usual names of a column or array of classes.
_LABEL_NAMES = ("label", "labels", "class", "target", "y", "species", "category", "outcome")
#: Formats of named columns beside CSV.
_COLUMNAR = ("parquet", "arrow")
_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_SAMPLE_LINES = 500
#: Mean number of words from which a column of text is taken as the text of documents.
_WORDS = 5


@dataclass(slots=True)
class Finding:
    """Settings of [data], and notes on them.

    Attributes
    ----------
    keys : dict of str to str
        Keys of [data] without its files.
    labels : Path or None
        File of labels.
    notes : dict of str to str
        Comment of a key.
    is_text : bool
        Rows are documents.
    """

    keys: dict[str, str] = field(default_factory=dict)
    labels: Path | None = None
    notes: dict[str, str] = field(default_factory=dict)
    is_text: bool = False


def inspect_data(path: Path, label_column: str = "", labels: Path | None = None) -> Finding:
    r"""Find the settings of a data file or folder. Not collective.

    Parameters
    ----------
    path : Path
    label_column : str
        Column of the class of a CSV file; found by its name if it is empty.
    labels : Path, optional
        File of labels; by default the labels in the data, or a file beside `path`.

    Raises
    ------
    InputError, ConfigError
        The data do not exist, their format is unknown, or their labels are not found.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "fruit.csv")
    ...     _ = path.write_text("kind,mass\nfig,1\npear,2\n")
    ...     inspect_data(path, "kind").keys
    {'format': 'csv', 'label_column': 'kind'}
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    kind = _folder_format(path) if path.is_dir() else format_of_name(path.name)
    if kind is None:
        endings = sorted({ending for one in FORMATS.values() for ending in one.endings})
        raise ConfigError(f"{path}: the ending is unknown; known are {' '.join(endings)}")
    found = Finding({"format": kind}, is_text=kind.startswith("text_"))
    if labels is not None:
        if label_column:
            raise ConfigError("--label-column and --labels: give one of them")
        found.labels = labels
    elif kind == "csv":
        _inspect_csv(path, label_column, found)
    elif kind in _COLUMNAR:
        label_column = label_column or _chosen_label(_column_names(path, kind), found)
        found.keys["label_column"] = label_column
    elif label_column:
        raise ConfigError(f"--label-column {label_column}: {path} has no named columns")
    elif kind in ("npz", "hdf5"):
        _inspect_arrays(path, kind, found)
    elif FORMATS[kind].has_labels is None or kind in ("npy", "idx"):
        found.labels = _labels_beside(path)
    return found


def _folder_format(path: Path) -> str:
    """Return the format of a folder of documents or of images."""
    files = (one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
    endings = Counter(one.suffix.lower() for one in itertools.islice(files, 1000))
    if not endings:
        raise InputError(f"{path}: has no files")
    if sum(endings[ending] for ending in _IMAGE_ENDINGS) * 2 > endings.total():
        kind = next((name for name in FORMATS if "image" in name), None)
        if kind is None:
            raise ConfigError(f"{path}: folders of images are not read: make an NPZ file of them")
        return kind
    return "text_folder"


def _labels_beside(path: Path) -> Path:
    """Return the file of labels beside a file of rows, found by its name."""
    name, ending = path.name.split(".", 1) if "." in path.name else (path.name, "")
    names = [f"{name}_labels.{ending}", f"{name}-labels.{ending}", f"{name}_labels.txt"]
    names += [f"{name[:-1]}y.{ending}"] if name.lower().endswith("x") else []
    names += [f"y{name[1:]}.{ending}"] if name.lower().startswith("x") else []
    names += [path.name.replace("images-idx3", "labels-idx1")]
    names += [f"labels.{ending}", f"y.{ending}", "labels.txt"]
    for one in names:
        labels = path.with_name(one)
        if labels.is_file() and labels != path:
            return labels
    raise ConfigError(
        f"{path}: no file of labels beside it ({', '.join(dict.fromkeys(names[:3]))}, ...): "
        "name it with --labels"
    )


def _inspect_arrays(path: Path, kind: str, found: Finding) -> None:
    """Choose the arrays of rows and labels: the largest one, and one value for each of its rows."""
    arrays = {name: _open_array(path, kind, name) for name in _array_names(path, kind)}
    rows = {name: one for name, one in arrays.items() if one is not None and len(one.shape) > 1}
    if not rows:
        listed = ", ".join(arrays) or "none"
        raise InputError(f"{path}: no array of shape (rows, features); arrays: {listed}")
    first = max(rows, key=lambda name: (rows[name].shape[0], -len(name)))
    n = rows[first].shape[0]
    columns = [
        name
        for name, one in arrays.items()
        if one is not None and one.shape in ((n,), (n, 1)) and name != first
    ]
    if not columns:
        raise InputError(
            f"{path}: no array with one label for each of the {n} rows of {first}; arrays: "
            + ", ".join(arrays)
        )
    label = min(columns, key=lambda name: (name.lower() not in _LABEL_NAMES, columns.index(name)))
    found.keys |= {"features_key": first, "labels_key": label}
    if len(arrays) > 2:
        found.notes["features_key"] = "arrays: " + ", ".join(arrays)


def _array_names(path: Path, kind: str) -> tuple[str, ...]:
    if kind == "npz":
        return npz_names(path)
    import h5py

    check_heaps(path)
    with library_errors(path, "HDF5", OSError, RuntimeError, KeyError), h5py.File(path) as file:
        return tuple(name for name, one in file.items() if isinstance(one, h5py.Dataset))


def _open_array(path: Path, kind: str, name: str) -> RowBlocks | None:
    try:
        return open_npz(path, name) if kind == "npz" else open_hdf5(path, name)
    except InputError:  # an array that is neither rows nor labels
        return None


# ------------------------------------------------------------------------------------------- CSV


def _inspect_csv(path: Path, label_column: str, found: Finding) -> None:
    header = read_header(path, label_column or None, "auto")
    sample = _sample(path, header)
    label_column = label_column or _chosen_label(header.names, found)
    found.keys["label_column"] = label_column
    values = sample.get(label_column, [])
    if len(set(values)) > FEW_VALUES and are_numbers(values):
        is_integer = all(is_number(value) and float(value).is_integer() for value in values)
        found.keys["task"] = "auto" if is_integer else "regression"
        found.notes["task"] = (
            'many different numbers: "regression" predicts numbers, "classification" classes; '
            '"auto" decides by the whole file'
        )
    texts = {
        name: sum(len(cell.split()) for cell in cells) / len(cells)
        for name, cells in sample.items()
        if cells and name != label_column
    }
    longest = max(texts, key=lambda name: texts[name], default="")
    if longest and texts[longest] >= _WORDS:
        found.keys |= {"format": "text_csv", "text_column": longest}
        found.is_text = True


def _chosen_label(names: tuple[str, ...], found: Finding) -> str:
    """Return the column that is named like classes, else the last one."""
    named = [name for name in names if name.lower() in _LABEL_NAMES]
    reason = "the column is chosen by its name" if named else "the last column is chosen"
    found.notes["label_column"] = f"{reason}; columns: {_listed(names)}"
    return named[0] if named else names[-1]


def _column_names(path: Path, kind: str) -> tuple[str, ...]:
    """Return the columns of a file of Parquet or Arrow."""
    return arrow_column_names(path, kind)


def _sample(path: Path, header: CsvHeader) -> dict[str, list[str]]:
    """Return the first cells of each column."""
    columns: dict[str, list[str]] = {name: [] for name in header.names}
    with named_errors(path), open_stream(path) as stream:
        stream.seek(header.file.first_byte)
        for line in itertools.islice(stream, _SAMPLE_LINES):
            cells = header.split(line.decode("utf-8", "replace").rstrip("\r\n"))
            if len(cells) == len(header.names):
                for name, cell in zip(header.names, cells, strict=True):
                    columns[name].append(cell.strip())
    return columns


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
