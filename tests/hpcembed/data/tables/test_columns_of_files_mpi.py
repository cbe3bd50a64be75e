"""CSV, Parquet and Arrow files with columns of any kind: the same data set from each of them."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from hpcembed.data.columns.serialise import encoding_to_json
from hpcembed.data.prediction_input import read_prediction_input
from hpcembed.data.reading import describe_dataset, read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.runtime.errors import InputError

pytestmark = pytest.mark.mpi

N = 150


def columns() -> dict[str, list]:
    generator = np.random.default_rng(8)
    day = datetime.date(2020, 1, 1)
    return {
        "height": [None if i % 11 == 3 else float(i * 37 % 101) / 4 for i in range(N)],
        "kind": [("fir", "oak", None, "elm")[i] for i in generator.integers(0, 4, N)],
        "felled": [bool(i) for i in generator.integers(0, 2, N)],
        "planted": [day + datetime.timedelta(days=int(i)) for i in generator.integers(0, 999, N)],
        "class": [("a", "b")[i % 2] for i in range(N)],
    }


def cell(value: object) -> str:
    if value is None:
        return "NA"
    return str(value).lower() if isinstance(value, bool) else str(value)


def write(kind: str, folder, table: dict[str, list], name: str = "t"):
    path = folder / f"{name}.{kind}"
    if kind == "csv":
        lines = [
            ",".join(table),
            *(",".join(map(cell, row)) for row in zip(*table.values(), strict=True)),
        ]
        path.write_text("\n".join(lines) + "\n")
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(table), path, row_group_size=40)
    else:
        pyarrow.feather.write_feather(pyarrow.table(table), path, chunksize=40)
    return path


def settings(path, **others) -> DataSettings:
    return DataSettings(train=(path.name,), label_column="class", **others)


def whole(comm, rows):
    return np.concatenate(comm.allgather(rows))


@pytest.fixture
def file(comm, shared_tmp):
    """Write a file on rank 0 alone; its path on all ranks."""

    def make(kind, table, name="t"):
        path = write(kind, shared_tmp, table, name) if comm.rank == 0 else None
        return comm.bcast(path)

    return make


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather"])
def test_every_format_gives_the_same_rows(comm, file, kind):
    from mpi4py import MPI

    path = file(kind, columns())
    data = read_dataset(settings(path), path.parent, comm)
    assert data.train.feature_names == (
        "height", "height is missing", "kind=elm", "kind=fir", "kind=oak", "kind is missing",
        "felled", "planted",
    )  # fmt: skip
    assert data.train.class_names == ("a", "b")
    alone = read_dataset(settings(path), path.parent, MPI.COMM_SELF)
    assert encoding_to_json(data.encoding) == encoding_to_json(alone.encoding)
    rows = whole(comm, data.train.rows)
    np.testing.assert_array_equal(rows, alone.train.rows)
    np.testing.assert_array_equal(data.scaling.kind, "standard")
    expected = read_dataset(settings(file("csv", columns(), "u")), path.parent, MPI.COMM_SELF)
    np.testing.assert_array_equal(rows, expected.train.rows)
    assert describe_dataset(settings(path), path.parent, comm).n_features == 4


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather"])
def test_numbers_alone_are_an_array(comm, file, kind):
    table = {
        "x": [float(i % 7) for i in range(N)],
        "n": list(range(N)),
        "class": columns()["class"],
    }
    path = file(kind, table)
    data = read_dataset(settings(path), path.parent, comm)
    assert data.encoding is None
    assert data.scaling.kind == "none"
    total = whole(comm, data.train.rows)
    assert total.dtype == np.float64
    assert data.train.feature_names == ("x", "n")
    table["x"][5] = None
    path = file(kind, table, "gap")
    data = read_dataset(settings(path), path.parent, comm)
    assert data.train.feature_names == ("x", "x is missing")  # n counts the rows
    data = read_dataset(settings(path, columns={"n": "number"}), path.parent, comm)
    assert data.train.feature_names == ("x", "x is missing", "n")
    with pytest.raises(InputError, match=r"row 6.*empty|1 missing cells|'NA' is not"):
        read_dataset(settings(path, gaps="refuse"), path.parent, comm)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_of_one_other_file_are_encoded_alike(comm, file, kind):
    """A file of one row shows no type: that of the training data applies."""
    path = file(kind, columns())
    data = read_dataset(settings(path), path.parent, comm)
    encoding = data.encoding
    row = {
        "note": ["anything, 5"] if kind == "parquet" else ["anything"],
        "planted": [datetime.date(2021, 2, 3)],
        "kind": ["elm"],
        "felled": [True],
        "height": [None],
    }
    new = file(kind, row, "new")
    table, has_labels = read_prediction_input(
        settings(new), new, None, 0, comm, names=encoding.input_names, encoding=encoding
    )
    assert not has_labels
    rows = whole(comm, encoding.transform(table.rows, table.start))
    days = (datetime.date(2021, 2, 3) - datetime.date(1970, 1, 1)).days
    np.testing.assert_array_equal(rows, [[encoding.columns[0].fill, 1, 1, 0, 0, 0, 1, days]])
    del row["kind"]
    short = file(kind, row, "short")
    with pytest.raises(InputError, match="lacks columns of the model: kind"):
        read_prediction_input(
            settings(short), short, None, 0, comm, names=encoding.input_names, encoding=encoding
        )


def test_decimal_commas_of_a_one_row_file(comm, file):
    table = {"x": [f"{i % 7},5" for i in range(N)], "class": columns()["class"]}
    path = file("csv", table)
    if comm.rank == 0:
        path.write_text(path.read_text().replace(",a", ";a").replace(",b", ";b")
                        .replace("x,class", "x;class"))  # fmt: skip
    comm.Barrier()
    encoding = read_dataset(settings(path), path.parent, comm).encoding
    assert encoding.columns[0].style == "comma"
    new = file("csv", {"x": ["1.234"]}, "new")
    table, _ = read_prediction_input(
        settings(new), new, None, 0, comm, names=("x",), encoding=encoding
    )
    np.testing.assert_array_equal(whole(comm, encoding.transform(table.rows)), [[1234.0]])


def test_a_bad_cell_of_prediction_input_is_named(comm, file):
    encoding = read_dataset(settings(path := file("csv", columns())), path.parent, comm).encoding
    table = {**columns(), "height": [1.0] * N}
    table["height"][70] = "tall"
    new = file("csv", table, "new")
    rows, _ = read_prediction_input(
        settings(new), new, None, 0, comm, names=encoding.input_names, encoding=encoding
    )
    words = r"new.csv: data row 71 \(line 72\): column 1 \(height"
    holds_it = rows.start <= 70 < rows.start + len(rows.rows)
    if holds_it:
        with pytest.raises(InputError, match=words):
            encoding.transform(rows.rows, rows.start)
    else:
        assert encoding.transform(rows.rows, rows.start).shape[1] == 8


def test_columns_that_are_dropped_may_hold_anything(comm, file):
    table = {**columns(), "junk": [f'"{i}"' if i % 3 else "\u00e4 \u00df" for i in range(N)]}
    path = file("csv", table)
    data = read_dataset(settings(path, drop_columns=("junk",)), path.parent, comm)
    assert not any("junk" in name for name in data.train.feature_names)
    assert [(one.name, one.reason) for one in data.encoding.dropped] == [
        ("junk", "left out by the settings")
    ]
    data = read_dataset(settings(path, missing=("fir",)), path.parent, comm)
    assert "kind=fir" not in data.train.feature_names


def test_nested_columns_of_parquet_files_are_refused(comm, file):
    table = {"x": [[1.0]] * N, "y": [1.5] * N, "class": columns()["class"]}
    path = file("parquet", table)
    with pytest.raises(InputError, match="column 'x' holds list"):
        read_dataset(settings(path), path.parent, comm)
    with pytest.raises(InputError, match="no column 'kind'"):
        read_dataset(DataSettings(train=(path.name,), label_column="kind"), path.parent, comm)
    table["class"] = [None, *table["class"][1:]]
    path = file("parquet", table, "gap")
    with pytest.raises(InputError, match="row 1: the label is missing"):
        read_dataset(settings(path, drop_columns=("x",)), path.parent, comm)
    broken = path.parent / "broken.parquet"
    if comm.rank == 0:
        broken.write_bytes(b"PAR1 nonsense")
    comm.Barrier()
    with pytest.raises(InputError, match=r"broken.parquet: cannot be read as Parquet"):
        read_dataset(settings(broken), path.parent, comm)


def test_test_files_are_encoded_as_the_training_files(comm, file):
    table = {"code": ["01", "2", "A"] * 50, "x": [i * 0.5 % 7 for i in range(N)],
             "class": columns()["class"]}  # fmt: skip
    train = file("csv", table, "train")
    test = file("csv", {**table, "code": ["01", "2", "2"] * 50}, "test")
    config = DataSettings(train=(train.name,), test=(test.name,), label_column="class")
    data = read_dataset(config, train.parent, comm)
    at = [data.train.feature_names.index(f"code={level}") for level in ("01", "2", "A")]
    np.testing.assert_array_equal(whole(comm, data.test.rows)[:, at].sum(axis=0), [50, 100, 0])
