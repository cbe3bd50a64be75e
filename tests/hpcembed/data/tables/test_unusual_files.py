"""Files of other programs and encodings: one line with the remedy."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from mpi4py import MPI

from hpcembed.data.reading import read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.runtime.errors import ConfigError, InputError

TEXT = "a,b,y\n" + "".join(f"{i / 7:.3f},{i % 5},{'uv'[i % 2]}\n" for i in range(40))
REFUSED = {
    "utf16.csv": (TEXT.encode("utf-16"), "UTF-16 text: convert the file to UTF-8"),
    "latin.csv": (TEXT.replace("u\n", "é\n").encode("latin-1"), "not UTF-8 text: convert the file"),
    "sheet.csv": (b"PK\x03\x04" + bytes(50), "a spreadsheet or an archive, not text: save it as"),
    "old.csv": (b"\xd0\xcf\x11\xe0" + bytes(50), "a spreadsheet or an archive"),
    "mac.csv": (TEXT.replace("\n", "\r").encode(), "its lines end with carriage returns"),
    "twice.csv": (TEXT.replace("a,b", "a,a").encode(), "several columns are named 'a': rename"),
    "two.csv": (b"a,a,y\n0x1,u,v\n2,w,v\n", "two.csv: several columns are named 'a': rename"),
    "book.xlsx": (b"PK\x03\x04" + bytes(50), "book.xlsx: a spreadsheet: save it as CSV or Parquet"),
    "one.csv": (b"a,b,y\n1,2,u\n", "one.csv: one row: give more rows"),
}


def read(name, folder):
    return read_dataset(DataSettings(train=(name,), label_column="y"), folder, MPI.COMM_SELF)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(tmp_path, name):
    content, words = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises((InputError, ConfigError)) as caught:
        read(name, tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty: the folder is empty"):
        read("empty", tmp_path)


def test_lists_in_cells_name_file_and_column(tmp_path):
    table = pa.table({"a": np.arange(4.0), "e": [[1, 2]] * 4, "y": list("uvuv")})
    pyarrow.parquet.write_table(table, tmp_path / "lists.parquet")
    with pytest.raises(InputError, match=r"lists.parquet: column 'e' holds list"):
        read("lists.parquet", tmp_path)


@pytest.mark.parametrize("change", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n")])
def test_marks_and_line_ends_of_other_programs(tmp_path, change):
    (tmp_path / "t.csv").write_bytes(change(TEXT).encode())
    data = read("t.csv", tmp_path)
    assert data.train.feature_names == ("a", "b")
    assert data.train.n_rows + data.test.n_rows == 40
