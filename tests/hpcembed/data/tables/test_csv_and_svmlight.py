"""CSV and SVMlight: round trips, byte ranges, errors by file, row, line and column."""

from __future__ import annotations

import gzip
import io
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from hpcembed.data.line_ranges import TextFile, count_skipped, line_blocks
from hpcembed.data.reading import describe_dataset, read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.data.tables.csv_header import read_header
from hpcembed.data.tables.csv_table import CsvSource
from hpcembed.runtime.errors import InputError


def table(n: int = 60, d: int = 4) -> tuple[np.ndarray, list[str]]:
    rows = np.random.default_rng(2).standard_normal((n, d))
    rows[:, 1] *= 1e12
    rows[3, 1] = -59191263232
    return rows, [("oak", "elm", "fir tree")[i % 3] for i in range(n)]


def csv_text(rows, labels, separator=",", place: int = 2, end: str = "\n") -> str:
    names = [f"f {j}" for j in range(rows.shape[1])] if separator != " " else list("abcd")
    lines = [[*names[:place], "kind", *names[place:]]]
    for row, label in zip(rows, labels, strict=True):
        cells = [repr(float(value)) for value in row]
        lines.append([*cells[:place], label, *cells[place:]])
    return "".join(separator.join(line) + end for line in lines)


def job(*files: str, **others) -> DataSettings:
    settings = {"format": "csv", "label_column": "kind", "test": files, **others}
    return DataSettings(train=files, **settings)


def refused(config: DataSettings, folder: Path, comm, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_dataset(config, folder, comm)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_round_trip(tmp_path, comm, separator, end):
    rows, labels = table()
    labels = [label.replace(" ", "_") for label in labels]
    text = csv_text(rows, labels, separator, end=end)
    for name, content in (
        ("plain.csv", text.encode()),
        ("bom.csv", b"\xef\xbb\xbf" + text.encode()),
        ("open_end.csv", text.rstrip().encode()),
        ("blank_lines.csv", text.replace(end, end + end, 7).encode()),
        ("packed.csv.gz", gzip.compress(text.encode())),
    ):
        (tmp_path / name).write_bytes(content)
        data = read_dataset(job(name), tmp_path, comm)
        np.testing.assert_array_equal(data.train.rows, rows)
        assert data.train.rows.dtype == np.float64
        assert data.train.class_names == ("elm", "fir_tree", "oak")
        assert [data.train.class_names[code] for code in data.train.labels.codes] == labels
        assert len(data.train.feature_names) == 4
        assert data.train.feature_names[0] in ("f 0", "a")


def test_blanks_between_fields_may_be_many(tmp_path, comm):
    (tmp_path / "a.csv").write_text(" a   kind b \n 1  x  2\n3 \t y 4 \n")
    data = read_dataset(job("a.csv"), tmp_path, comm)
    np.testing.assert_array_equal(data.train.rows, [[1, 2], [3, 4]])


def test_blank_lines_are_not_rows_if_blanks_separate_fields(tmp_path, comm):
    rows, labels = table()
    labels = [label.replace(" ", "_") for label in labels]
    lines = csv_text(rows, labels, " ").splitlines()
    lines[9] += "\n  \t "
    lines[40] += "\n \n\n\t"
    (tmp_path / "a.csv").write_text("\n".join([*lines, *[" " * 40] * 50]))
    data = read_dataset(job("a.csv", split="own"), tmp_path, comm)
    assert (data.train.n_rows, len(data.train.rows)) == (60, len(data.train.labels.codes))
    total = comm.allreduce(data.train.rows.sum(axis=0))
    np.testing.assert_allclose(total, rows.sum(axis=0))
    assert describe_dataset(job("a.csv", split="own"), tmp_path, comm).n_rows == (60, 60)
    lines[20] = lines[20].replace("elm", "")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    refused(job("a.csv", split="own"), tmp_path, comm, "data row 20 (line 22)")


def test_quoted_fields(tmp_path, comm):
    text = '"a, the first",kind\n"1.5","x, ""the"" one"\n2,y\n'
    (tmp_path / "a.csv").write_text(text)
    data = read_dataset(job("a.csv"), tmp_path, comm)
    np.testing.assert_array_equal(data.train.rows, [[1.5], [2.0]])
    assert data.train.feature_names == ("a, the first",)
    assert data.train.class_names == ('x, "the" one', "y")


def test_numbers_as_labels_are_sorted_as_numbers(tmp_path, comm):
    (tmp_path / "a.csv").write_text("f,kind\n1,10.0\n2,9.0\n3,2\n4,2.0\n5,-1e1\n")
    data = read_dataset(job("a.csv"), tmp_path, comm)
    assert data.train.class_names == ("-1e1", "2", "9.0", "10.0")
    np.testing.assert_array_equal(data.train.labels.codes, [3, 2, 1, 1, 0])


def test_several_files_are_one_table(tmp_path, comm):
    rows, labels = table()
    (tmp_path / "a.csv").write_text(csv_text(rows[:20], labels[:20]))
    (tmp_path / "b.csv").write_text(csv_text(rows[20:], labels[20:]))
    data = read_dataset(job("a.csv", "b.csv"), tmp_path, comm)
    np.testing.assert_array_equal(data.train.rows, rows)
    (tmp_path / "b.csv").write_text(csv_text(rows[20:], labels[20:], place=0))
    refused(job("a.csv", "b.csv"), tmp_path, comm, "b.csv", "columns differ")


def test_csv_is_described_by_its_beginning(tmp_path, comm):
    rows, labels = table()
    (tmp_path / "a.csv").write_text(csv_text(rows, labels).replace("\n", "\n\n", 9))
    said = describe_dataset(job("a.csv"), tmp_path, comm)
    assert said.n_rows == (60, 60)
    assert (said.n_features, said.dtype, said.is_estimate) == (4, "float64", False)
    many = np.tile(rows, (400, 1))
    (tmp_path / "a.csv").write_text(csv_text(many, labels * 400))
    said = describe_dataset(job("a.csv"), tmp_path, comm)
    assert said.is_estimate
    assert abs(said.n_rows[0] - 24000) < 1000
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,kind\n1,2\n"))
    assert describe_dataset(job("a.csv.gz"), tmp_path, comm).n_rows == (None, None)


@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1000])
@pytest.mark.parametrize("n_ranges", [1, 2, 3, 17, 400])
def test_every_line_belongs_to_one_range(tmp_path, n_ranges, block_bytes):
    lines = [b"x" * (i * 7 % 13) + b"\n" for i in range(50)]
    (tmp_path / "t").write_bytes(b"head\n" + b"".join(lines)[:-1])
    size = (tmp_path / "t").stat().st_size
    cuts = np.linspace(5, size, n_ranges + 1).astype(int)
    found = b""
    for begin, end in pairwise(cuts):
        blocks = list(line_blocks(TextFile(tmp_path / "t", 5), int(begin), int(end), block_bytes))
        assert all(block.endswith(b"\n") for block in blocks[:-1])
        found += b"".join(blocks)
    assert found == b"".join(lines)[:-1]


def test_lines_without_data():
    assert count_skipped(b"a\n\nb\n\r\n") == 2
    assert count_skipped(b"\na\n") == 1
    assert count_skipped(b"a\nb\n") == 0
    assert count_skipped(b" \n1\n \t\n2\n  ", "blank") == 3
    assert count_skipped(b"# c\n1\n \t\n2 # d\n#", "comment") == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,2,oak,,4", ("column 4 (f 2)", "the cell is empty")),
        ("1,NaN,oak,3,4", ("column 2 (f 1)", "'NaN' is not a finite number")),
        ("1,2,oak,-inf,4", ("column 4 (f 2)", "not a finite number")),
        ("1,2,oak,3,1e999", ("column 5 (f 3)", "not a finite number")),
        ("x,2,oak,3,4", ("column 1 (f 0)", "'x' is not a number")),
        ("1,2,,3,4", ("column 3 (kind)", "the label is empty")),
        ("1,2,nan,3,4", ("column 3 (kind)", "the label is not a finite number")),
        ("1,2,oak,3", ("4 fields where the header has 5",)),
        ("1,2,oak,3,4,5", ("6 fields where the header has 5",)),
        ("1,2,oak,3\r,4", ("carriage return",)),
    ],
)
def test_a_bad_cell_is_named(tmp_path, comm, line, words):
    rows, labels = table()
    lines = csv_text(rows, labels).split("\n")
    lines[41] = line
    lines[10] += "\n"  # a blank line counts as a line, but not as a data row
    (tmp_path / "a.csv").write_bytes("\n".join(lines).encode())
    # cells that are missing are imputed unless they are refused; the others are always mistakes
    is_gap = "cell is empty" in words[1] or "NaN" in words[1] if len(words) > 1 else False
    config = job("a.csv", gaps="refuse" if is_gap else "impute")
    refused(config, tmp_path, comm, "a.csv", "data row 41 (line 43)", *words)
    if is_gap:
        assert read_dataset(job("a.csv"), tmp_path, comm).encoding is not None


def test_text_that_is_not_utf8(tmp_path, comm):
    (tmp_path / "a.csv").write_bytes("f,kind\n1,Ähre\n2,b\n".encode("latin-1"))
    refused(job("a.csv"), tmp_path, comm, "data row 1 (line 2)", "not UTF-8")


def test_line_breaks_inside_quotes(tmp_path, comm):
    (tmp_path / "a.csv").write_text('f,kind\n1,a\n2,"b\nc"\n')
    refused(job("a.csv"), tmp_path, comm, "line 3", "quote is not closed")


def test_csv_header_refusals(tmp_path, comm):
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n1,2,3\n")
    refused(job("a.csv"), tmp_path, comm, "no column 'kind'", "it has: a, b, c")
    refused(job("a.csv", label_column=""), tmp_path, comm, "set data.label_column", "a, b, c")
    path.write_text("a,kind,kind\n1,2,3\n")
    refused(job("a.csv"), tmp_path, comm, "2 columns are called 'kind'")
    path.write_text("kind\n1\n2\n")
    refused(job("a.csv"), tmp_path, comm, "no column besides the label")
    path.write_text("a,kind\n")
    refused(job("a.csv"), tmp_path, comm, "no data rows")
    path.write_text("\n\n")
    refused(job("a.csv"), tmp_path, comm, "line 1 is not a header")
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    refused(job("a.csv"), tmp_path, comm, "line 1", "data.format")
    path.write_text("a,kind\n1,2\n")
    refused(job("a.csv", delimiter="what"), tmp_path, comm, "data.delimiter")


def test_csv_gzip_truncated(tmp_path, comm):
    rows, labels = table(2000)
    packed = gzip.compress(csv_text(rows, labels).encode())
    (tmp_path / "a.csv.gz").write_bytes(packed[:-100])
    refused(job("a.csv.gz"), tmp_path, comm, "a.csv.gz", "truncated")


def test_train_and_test_with_other_columns(tmp_path, comm):
    (tmp_path / "a.csv").write_text("a,b,kind\n1,2,x\n1,3,y\n")
    (tmp_path / "b.csv").write_text("b,a,kind\n1,2,x\n1,3,y\n")
    refused(job("a.csv", test=("b.csv",)), tmp_path, comm, "b.csv", "columns differ")


def test_a_column_of_numbers_is_not_a_class(tmp_path, comm):
    lines = "".join(f"1,{i}.5\n" for i in range(70000))
    (tmp_path / "a.csv").write_text("f,kind\n" + lines)
    config = msgspec.structs.replace(job("a.csv"), task="classification")
    refused(config, tmp_path, comm, "different labels", "not classes")


def test_a_chosen_separator(tmp_path):
    (tmp_path / "a.csv").write_text("a,x:kind:b,y\n")
    assert read_header(tmp_path / "a.csv", "kind", ":").names == ("a,x", "kind", "b,y")
    assert CsvSource([tmp_path / "a.csv"], "kind", ":").header.feature_names == ("a,x", "b,y")


# -------------------------------------------------------------------------------------- SVMlight


def sparse_table(n: int = 50, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    rows = generator.standard_normal((n, d)) * (generator.random((n, d)) < 0.3)
    rows[0, 0] = rows[0, d - 1] = 1.0
    return rows, np.arange(n) % 3 - 1


@pytest.mark.parametrize("zero_based", [True, False])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_svmlight_round_trip(tmp_path, comm, zero_based, ending):
    rows, labels = sparse_table()
    stream = io.BytesIO()
    dump_svmlight_file(
        rows, labels, stream, zero_based=zero_based, comment="head", query_id=labels + 1
    )
    content = stream.getvalue() + b"\n# end\n"
    name = f"a.svm{ending}"
    (tmp_path / name).write_bytes(gzip.compress(content) if ending else content)
    data = read_dataset(DataSettings(train=(name,), test=(name,)), tmp_path, comm)
    np.testing.assert_allclose(data.train.rows.toarray(), rows, rtol=1e-14)
    assert data.train.rows.format == "csr"
    assert data.train.rows.dtype == np.float64
    assert data.train.class_names == ("-1", "0", "1")
    np.testing.assert_array_equal(data.train.labels.codes, labels + 1)
    expected, _ = load_svmlight_file(io.BytesIO(stream.getvalue()), zero_based="auto")
    np.testing.assert_array_equal(data.train.rows.toarray(), expected.toarray())


def test_svmlight_files_have_one_numbering_and_width(tmp_path, comm):
    (tmp_path / "a.svm").write_text("1 1:1 3:3\n2 2:2\n")
    (tmp_path / "b.svm").write_text("1 0:7 1:8\n2 5:1\n")
    data = read_dataset(DataSettings(train=("a.svm",), test=("b.svm",)), tmp_path, comm)
    assert data.train.rows.shape == data.test.rows.shape == (2, 6)
    np.testing.assert_array_equal(data.train.rows.toarray()[0], [0, 1, 0, 3, 0, 0])
    config = DataSettings(train=("a.svm",), test=("a.svm",), n_features=9)
    assert read_dataset(config, tmp_path, comm).train.rows.shape == (2, 9)
    config = DataSettings(train=("a.svm",), test=("a.svm",), n_features=2)
    refused(config, tmp_path, comm, "3 features, but data.n_features is 2")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 2:x", ("line 3", "feature 2", "'x' is not a finite number")),
        ("1 2:nan", ("line 3", "feature 2", "not a finite number")),
        ("yes 2:1", ("line 3", "the label 'yes'")),
        ("1 2", ("line 3", "'2' is not index:value")),
        ("1 -2:1", ("line 3", "not index:value")),
        ("1 99999999999999999999999:1", ("line 3", "not index:value")),
        ("1 3:1 2:1", ("line 3", "feature 2 follows feature 3")),
        ("1 3:1 3:1", ("line 3", "sort")),
    ],
)
def test_svmlight_bad_lines_are_named(tmp_path, comm, line, words):
    (tmp_path / "a.svm").write_text(f"1 1:1\n2 2:2\n{line}\n1 4:1\n")
    refused(DataSettings(train=("a.svm",)), tmp_path, comm, "a.svm", *words)


def test_svmlight_without_rows_or_features(tmp_path, comm):
    (tmp_path / "a.svm").write_text("# nothing\n\n")
    refused(DataSettings(train=("a.svm",)), tmp_path, comm, "no data rows")
    (tmp_path / "a.svm").write_text("1\n2\n1\n2\n1\n2\n1\n2\n1\n2\n")
    refused(DataSettings(train=("a.svm",)), tmp_path, comm, "no feature occurs")
