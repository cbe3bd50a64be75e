"""Arrow files: sizes by their metadata, columns with wrong names or types, damaged columns."""

import struct

import numpy as np
import pyarrow
import pyarrow.feather
import pytest
from mpi4py import MPI

from hpcembed.data.tables.arrow_sizes import BatchSize, read_batch_sizes
from hpcembed.data.tables.arrow_table import ArrowSource
from hpcembed.data.tables.parquet import open_parquet
from hpcembed.runtime.errors import InputError

N = 1000


def columns() -> pyarrow.Table:
    texts = pyarrow.array([f"x{i % 7}" for i in range(N)])
    return pyarrow.table(
        {"a": np.arange(float(N)), "b": texts.dictionary_encode(), "c": texts,
         "d": [True, None] * (N // 2)}
    )  # fmt: skip


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_sizes_are_those_of_the_batches(tmp_path, compression):
    path = tmp_path / "a.arrow"
    pyarrow.feather.write_feather(columns(), path, compression, chunksize=300)
    found, dictionaries = read_batch_sizes(path)
    with pyarrow.ipc.open_file(path) as file:
        batches = [file.get_batch(i) for i in range(file.num_record_batches)]
        words = sum(sum(map(len, batches[0].column(1).dictionary.to_pylist())) for _ in range(1))
    assert [one.n_rows for one in found] == [300, 300, 300, 100]
    assert words <= dictionaries < words + 100
    for one, batch in zip(found, batches, strict=True):
        assert abs(one.n_bytes + dictionaries - batch.nbytes) < 100


def test_a_declared_size_is_compared_with_the_memory_before_it_is_allocated(tmp_path):
    path = tmp_path / "a.arrow"
    pyarrow.feather.write_feather(pyarrow.table({"a": np.zeros(N), "y": np.zeros(N)}), path, "lz4")
    content = path.read_bytes()
    assert read_batch_sizes(path) == ([BatchSize(N, 16 * N)], 0)
    place = content.index(struct.pack("<q", 8 * N))
    for declared in (2**61, 2**50, -2):
        path.write_bytes(content[:place] + struct.pack("<q", declared) + content[place + 8 :])
        if declared < 0:
            with pytest.raises(InputError, match="not a whole Arrow file"):
                read_batch_sizes(path)
            continue
        assert read_batch_sizes(path)[0][0].n_bytes == declared + 8 * N
        source = ArrowSource([path], "arrow", "y")
        assert source.measure(MPI.COMM_SELF) > 2 * declared


@pytest.mark.parametrize("cut", [3, 12, 200, 900])
def test_files_that_are_cut(tmp_path, cut):
    path = tmp_path / "a.arrow"
    pyarrow.feather.write_feather(columns(), path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match=r"a\.arrow: "):
        read_batch_sizes(path)


def test_footers_that_lead_anywhere(tmp_path):
    path = tmp_path / "a.arrow"
    pyarrow.feather.write_feather(columns(), path, chunksize=100)
    content = path.read_bytes()
    (length,) = struct.unpack("<i", content[-10:-6])
    begin = len(content) - 10 - length
    refused = 0
    for place in range(begin, len(content) - 4, 4):
        for number in (-1, 2**31 - 1):
            path.write_bytes(content[:place] + struct.pack("<i", number) + content[place + 4 :])
            try:
                read_batch_sizes(path)
            except InputError:
                refused += 1
    assert refused > 40


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_repeated_names_and_types_that_are_no_feature(tmp_path, kind):
    path = tmp_path / f"a.{kind}"

    def write(table):
        if kind == "parquet":
            pyarrow.parquet.write_table(table, path)
        else:
            pyarrow.feather.write_feather(table, path)
        return ArrowSource([path], kind, "y")

    y = pyarrow.array([0, 1])
    repeated = pyarrow.Table.from_arrays([y, y, y], ["a", "a", "y"])
    if kind == "arrow":
        with pyarrow.ipc.new_file(path, repeated.schema) as file:
            file.write_table(repeated)
    else:
        pyarrow.parquet.write_table(repeated, path)
    with pytest.raises(InputError, match=f"a.{kind}: 2 columns are named 'a': rename"):
        ArrowSource([path], kind, "y")
    source = write(pyarrow.table({"a": [[1], [2]], "y": y}))
    source.measure(MPI.COMM_SELF)
    with pytest.raises(InputError, match=f"a.{kind}: column 'a' holds list"):
        source.read(MPI.COMM_SELF)


def test_texts_whose_offsets_lead_outside_are_refused(tmp_path):
    path = tmp_path / "a.arrow"
    table = pyarrow.table({"a": ["one", "two", "three"], "y": ["u", "v", "u"]})
    pyarrow.feather.write_feather(table, path, "uncompressed")
    content = path.read_bytes()
    offsets = struct.pack("<4i", 0, 3, 6, 11)
    assert offsets in content
    path.write_bytes(content.replace(offsets, struct.pack("<4i", 0, 3, 2**30, 11)))
    source = ArrowSource([path], "arrow", "y")
    source.measure(MPI.COMM_SELF)
    with pytest.raises(InputError, match=r"a\.arrow: cannot be read as Arrow"):
        source.read(MPI.COMM_SELF)


def test_repeated_columns_are_not_streamed(tmp_path):
    path = tmp_path / "a.parquet"
    ones = pyarrow.array([1.0])
    table = pyarrow.Table.from_arrays([ones, ones, ones], ["a", "a", "b"])
    pyarrow.parquet.write_table(table, path)
    for columns in (None, ["a"]):
        with pytest.raises(InputError, match=r"a\.parquet: 2 columns are named 'a': rename"):
            open_parquet(path, columns)
    assert open_parquet(path, "b").shape == (1, 1)


def test_names_that_are_no_text_are_an_error_of_the_file(tmp_path):
    path = tmp_path / "a.arrow"
    pyarrow.feather.write_feather(pyarrow.table({"name": [1], "y": [1]}), path)
    path.write_bytes(path.read_bytes().replace(b"name", b"na\xffe"))
    with pytest.raises(InputError, match=r"a\.arrow: cannot be read as Arrow"):
        ArrowSource([path], "arrow", "y")
