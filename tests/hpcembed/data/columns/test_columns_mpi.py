"""Kinds, encodings and medians: the same on any number of ranks; errors name cell and remedy."""

from __future__ import annotations

import datetime
import logging

import numpy as np
import pandas
import pyarrow
import pytest

from hpcembed.data.columns import ColumnEncoding, ColumnOptions, RawColumns, raw_columns_of
from hpcembed.data.columns.cells import date_of, missing_marks, number_of
from hpcembed.data.columns.choices import choice_records
from hpcembed.data.columns.fitting import fit_encoding, scan_table
from hpcembed.data.columns.medians import exact_medians
from hpcembed.data.columns.scan import SKETCH, scan_columns
from hpcembed.data.columns.serialise import encoding_from_json, encoding_to_json
from hpcembed.data.dataset import make_dataset
from hpcembed.data.labels import labels_from_text
from hpcembed.data.settings import DataSettings
from hpcembed.data.table import Table
from hpcembed.jobs.configuration import load_job
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import ownership_range
from hpcembed.runtime.settings import to_toml

pytestmark = pytest.mark.mpi


def mixed(n: int = 240) -> dict[str, list[object]]:
    """Columns of all kinds, as texts of a file."""
    generator = np.random.default_rng(4)
    ages = generator.integers(1, 90, n)
    return {
        "id": [str(i + 100) for i in range(n)],
        "name": [f"person {i * 7919 % 100003}" for i in range(n)],
        "age": ["" if i % 9 == 4 else str(ages[i]) for i in range(n)],
        "fare": [f"{float(x):.2f}".replace(".", ",") for x in generator.gamma(2, 20, n)],
        "share": [f"{x} %" for x in generator.integers(0, 100, n)],
        "sex": [("male", "female")[i % 2] for i in generator.integers(0, 2, n)],
        "port": [("C", "Q", "S", "NA")[i] for i in generator.integers(0, 4, n)],
        "cabin": [f"c{i}" for i in generator.integers(0, 60, n)],
        "alone": [("yes", "No")[i] for i in generator.integers(0, 2, n)],
        "born": [f"{1930 + i % 70}-0{1 + i % 9}-{10 + i % 15}" for i in range(n)],
        "unit": ["kg"] * n,
    }


def share(columns: dict[str, list[object]], comm) -> tuple[RawColumns, int]:
    n = len(next(iter(columns.values())))
    first, last = ownership_range(n, comm)
    raw = raw_columns_of({name: values[first:last] for name, values in columns.items()})
    return raw, first


def fitted(columns, comm, **options) -> ColumnEncoding:
    raw, start = share(columns, comm)
    scanned = scan_table(raw, ColumnOptions(**options), comm, start=start, source="t.csv")
    return fit_encoding(scanned, raw, comm)


def test_every_column_has_the_kind_that_its_cells_imply(comm):
    encoding = fitted(mixed(), comm)
    # "id" is a text column of numbers here: files give such columns as numbers
    kinds = {one.name: one.kind for one in encoding.columns}
    assert kinds == {
        "id": "number",
        "age": "number",
        "fare": "number",
        "share": "number",
        "sex": "category",
        "port": "category",
        "cabin": "category",
        "alone": "boolean",
        "born": "date",
    }
    assert {one.name: one.reason for one in encoding.dropped} == {
        "name": "an identifier: nearly all texts are different",
        "unit": "constant",
    }
    by_name = {one.name: one for one in encoding.columns}
    assert by_name["fare"].style == "comma"
    assert by_name["port"].levels == ("C", "Q", "S")
    assert by_name["port"].has_indicator
    assert by_name["cabin"].is_ordinal
    assert len(by_name["cabin"].levels) > 30
    ages = np.array([float(text) for text in mixed()["age"] if text])
    assert by_name["age"].fill == np.median(ages)
    assert (by_name["age"].low, by_name["age"].high) == (ages.min(), ages.max())
    assert by_name["age"].n_missing == 240 - ages.size


def test_rows_of_numbers(comm):
    columns = mixed()
    encoding = fitted(columns, comm, drop=("id",))
    raw, start = share(columns, comm)
    rows = encoding.transform(raw)
    of = {name: rows[:, j] for j, name in enumerate(encoding.feature_names_out)}
    assert rows.shape == (raw.n_rows, len(of))
    for i, row in enumerate(range(start, start + raw.n_rows)):
        text = columns["age"][row]
        assert of["age"][i] == (float(text) if text else encoding.columns[0].fill)
        assert of["age is missing"][i] == (text == "")
        assert of["fare"][i] == float(columns["fare"][row].replace(",", "."))
        assert of["share"][i] == float(columns["share"][row][:-2]) / 100
        assert of["sex=female"][i] == 1 - of["sex=male"][i] == (columns["sex"][row] == "female")
        assert of["port is missing"][i] == (columns["port"][row] == "NA")
        assert of["port=C"][i] + of["port=Q"][i] + of["port=S"][i] == 1 - of["port is missing"][i]
        assert of["alone"][i] == (columns["alone"][row] == "yes")
        day = datetime.date.fromisoformat(columns["born"][row])
        assert of["born"][i] == (day - datetime.date(1970, 1, 1)).days
    levels = next(one for one in encoding.columns if one.name == "cabin").levels
    counts = [columns["cabin"].count(level) for level in levels]
    assert counts == sorted(counts)
    np.testing.assert_array_equal(
        of["cabin"],
        [(1 + levels.index(t)) / len(levels) for t in columns["cabin"][start:][: raw.n_rows]],
    )


def test_the_encoding_is_the_same_on_any_number_of_ranks(comm):
    from mpi4py import MPI

    columns = mixed()
    assert encoding_to_json(fitted(columns, comm)) == encoding_to_json(
        fitted(columns, MPI.COMM_SELF)
    )


@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_medians_are_those_of_numpy(comm, n):
    values = np.random.default_rng(n).standard_normal((3, n)) * 1e3
    values[1] = np.round(values[1] / 1e3)
    values[2] *= 1e-300
    first, last = ownership_range(n, comm)
    found = exact_medians([row[first:last] for row in values], np.full(3, n), comm)
    np.testing.assert_allclose(found, np.median(values, axis=1), rtol=1e-15)
    assert exact_medians([np.empty(0)], np.array([0]), comm) == 0


def test_the_number_of_different_texts_is_estimated(comm):
    n = 30000
    first, last = ownership_range(n, comm)
    raw = raw_columns_of({"few": [f"a{i % 1500}" for i in range(first, last)],
                          "many": [f"b{i % 20000}" for i in range(first, last)]})  # fmt: skip
    found = scan_columns(raw, missing_marks(), comm, first)
    assert found["few"].n_distinct == 1500 < SKETCH
    assert abs(found["many"].n_distinct / 20000 - 1) < 0.06


def test_a_column_that_counts_the_rows_is_left_out(comm):
    first, last = ownership_range(50, comm)
    columns = {"index": np.arange(first, last) + 7.0, "x": np.arange(first, last) ** 2.0}
    raw = raw_columns_of(columns)
    scanned = scan_table(raw, ColumnOptions(), comm, start=first)
    assert scanned.decisions["index"].reason == "counts the rows"
    assert scanned.decisions["x"].kind == "number"
    kept = scan_table(raw, ColumnOptions(kinds={"index": "number"}), comm, start=first)
    assert kept.decisions["index"].kind == "number"


def test_an_index_without_a_name_is_left_out(comm):
    first, last = ownership_range(50, comm)
    shuffled = np.random.default_rng(0).permutation(500)[first:last].astype(np.float64)
    columns = {"": shuffled, "id": shuffled, "x": shuffled / 2}
    scanned = scan_table(raw_columns_of(columns), ColumnOptions(), comm, start=first)
    assert scanned.decisions[""].reason == "an index: integers without a name"
    assert [scanned.decisions[name].kind for name in ("id", "x")] == ["number", "number"]
    unnamed = {"": shuffled / 2, "x": shuffled}  # values, not an index
    scanned = scan_table(raw_columns_of(unnamed), ColumnOptions(), comm, start=first)
    assert scanned.decisions[""].kind == "number"


def refused(comm, columns, *words: str, kind=InputError, **options) -> None:
    with pytest.raises(kind) as caught:
        fitted(columns, comm, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_odd_texts_among_numbers_are_errors(comm):
    columns = {"x": [str(i * i) for i in range(300)], "y": ["a", "b"] * 150}
    columns["x"][217] = "12 kg"
    words = ("t.csv: data row 218", "column 'x'", "'12 kg' is not a number", "data.missing")
    refused(comm, columns, *words, "data.columns")
    refused(comm, columns, "'12 kg' is not a number", kinds={"x": "number"})
    encoding = fitted(columns, comm, missing=("12 kg",))
    assert encoding.feature_names_out[:2] == ("x", "x is missing")
    assert fitted(columns, comm, kinds={"x": "category"}).columns[0].kind == "category"
    columns["x"][10:14] = ["p", "q", "r", "s"]
    assert {one.name for one in fitted(columns, comm).dropped} == {"x"}  # an identifier


def test_numbers_and_dates_that_can_be_read_in_two_ways(comm):
    amounts = {"x": ["1,234", "5,678", "12"] * 20, "y": ["a", "b", "c"] * 20}
    refused(comm, amounts, "column 'x'", 'x = "decimal_comma"', "decimal_point")
    encoding = fitted(amounts, comm, kinds={"x": "decimal_comma"})
    assert encoding.columns[0].fill == 5.678
    other = {**amounts, "z": ["0.5", "1.5", "2"] * 20}
    assert fitted(other, comm).columns[0].fill == 1234.0
    dates = {"d": ["03/04/2020", "05/06/2020"] * 30}
    refused(comm, dates, "column 'd'", 'd = "day_first"')
    assert fitted(dates, comm, kinds={"d": "month_first"}).columns[0].low == date_of(
        "2020-03-04", "iso"
    )
    dates["d"][3] = "25/06/2020"
    assert fitted(dates, comm).columns[0].order == "day_first"


def test_settings_that_are_refused(comm):
    columns = {"x": ["1", "2"] * 20, "y": ["", "a"] * 20}
    refused(comm, columns, "data.columns", "no feature column 'z'", kind=ConfigError,
            kinds={"z": "number"})  # fmt: skip
    refused(comm, columns, "data.drop_columns", kind=ConfigError, drop=("z",))
    refused(comm, columns, "column 'y' has 20 missing cells", "data.gaps", gaps="refuse")
    refused(comm, {"x": ["1"] * 9}, "no column is left", "x (constant)")
    refused(comm, {"x": [1.0, float("inf")] * 9}, "data row 2", "not a finite number")


@pytest.mark.parametrize(
    ("text", "style", "value"),
    [
        ("1e3", "plain", 1000), ("+.5", "plain", 0.5), ("1_0", "plain", None),
        ("nan", "plain", None), ("1e999", "plain", None), ("-1,234,567.5", "point", -1234567.5),
        ("1,23", "point", None), ("1.234.567", "comma", 1234567), ("1.5", "comma", None),
        ("1 234,5", "comma", 1234.5), ("1'234.5", "point", 1234.5), ("12,5%", "comma", 0.125),
        ("1,234.567", "comma", None), ("", "point", None), (",", "comma", None),
    ],
)  # fmt: skip
def test_numbers(text, style, value):
    found = number_of(text, style)
    assert np.isnan(found) if value is None else found == value


def test_dates():
    assert date_of("2020-01-01T01:00:00+01:00", "iso") == date_of("2020/1/1", "iso") == 18262
    assert date_of("2020-01-01 12:00:00.5", "iso") == 18262.5 + 0.5 / 86400
    assert np.isnan(date_of("2020-02-30", "iso"))
    assert date_of("1.2.2020", "day_first") == date_of("2/1/2020", "month_first")


def table(columns, labels, comm) -> Table:
    raw, start = share(columns, comm)
    own = labels[start : start + raw.n_rows]
    return Table(raw, labels_from_text(own, "t", start), start, len(labels), raw.names, "t.csv")


def test_a_data_set_learns_from_training_rows_only(comm, caplog):
    columns = mixed()
    labels = ["a" if text == "male" else "b" for text in columns["sex"]]
    with caplog.at_level(logging.INFO, logger="hpcembed"):
        data = make_dataset([table(columns, labels, comm)], DataSettings(), comm)
    assert data.encoding is not None
    assert data.train.feature_names == data.encoding.feature_names_out
    assert data.train.rows.shape[1] == data.test.rows.shape[1] == data.encoding.n_features_out
    assert (data.train.n_rows, data.test.n_rows) == (192, 48)
    assert data.scaling.kind == "standard"
    column = data.encoding.feature_names_out.index("fare")
    whole = np.concatenate(comm.allgather(data.train.rows[:, column]))
    assert data.encoding.columns[2].fill == np.median(whole)
    text = caplog.text
    assert ("identifier" in text) == (comm.rank == 0)


def test_training_and_test_tables_of_their_own(comm):
    columns = mixed()
    labels = ["a", "b"] * 120
    test = {name: values[:30] for name, values in columns.items()}
    test["sex"] = ["other"] * 30
    data = make_dataset(
        [table(columns, labels, comm), table(test, labels[:30], comm)], DataSettings(), comm
    )
    at = [data.train.feature_names.index(f"sex={level}") for level in ("female", "male")]
    assert not data.test.rows[:, at].any()
    assert (data.train.rows[:, at].sum(axis=1) == 1).all()


def test_json_keeps_the_encoding(comm):
    encoding = fitted(mixed(), comm)
    again = encoding_from_json(encoding_to_json(encoding))
    assert encoding_to_json(again) == encoding_to_json(encoding)
    raw, _ = share(mixed(), comm)
    assert again.transform(raw).tobytes() == encoding.transform(raw).tobytes()
    assert [one["column"] for one in choice_records(again)][:2] == ["id", "age"]
    for text in ("{}", "[]", encoding_to_json(encoding).replace('"version": 1', '"version": 9')):
        with pytest.raises(ValueError):  # noqa: PT011
            encoding_from_json(text)


def test_tables_of_every_library_give_the_same_columns():
    days = ["2020-01-01", "2021-05-06", None]
    columns = {
        "x": [1.0, None, 3.0],
        "n": [1, 2, 3],
        "c": ["a", None, "b"],
        "b": [True, False, None],
        "d": [None if t is None else datetime.datetime.fromisoformat(t) for t in days],
    }
    options = ColumnOptions()
    from mpi4py import MPI

    raw = raw_columns_of(columns)
    encoding = fit_encoding(scan_table(raw, options, MPI.COMM_SELF), raw, MPI.COMM_SELF)
    assert [one.kind for one in encoding.columns] == ["number", "number", "category", "boolean",
                                                      "date"]  # fmt: skip
    expected = encoding.transform(raw)
    frame = pandas.DataFrame(columns)
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for other in (
        frame,
        frame[["d", "b", "c", "n", "x"]].assign(other=[object(), 1, 2]),
        frame.convert_dtypes(),
        frame.assign(c=frame["c"].astype("category"), d=frame["d"].dt.tz_localize("UTC")),
        pyarrow.table(columns),
        pyarrow.table(columns).to_batches()[0],
        pyarrow.table({**columns, "c": pyarrow.array(columns["c"]).dictionary_encode()}),
        records,
        np.array(list(zip(*columns.values(), strict=True)), dtype=object),
        list(zip(*columns.values(), strict=True)),
    ):
        np.testing.assert_array_equal(encoding.transform(other), expected)
    with pytest.raises(InputError, match="columns are missing: d"):
        encoding.transform(frame.drop(columns="d"))
    with pytest.raises(InputError, match="columns of equal length"):
        raw_columns_of({"a": [1], "b": [1, 2]})
    with pytest.raises(InputError, match="several columns are named 'b'"):
        raw_columns_of(pandas.concat([frame, frame], axis=1))


def test_levels_that_are_numbers():
    from mpi4py import MPI

    raw = raw_columns_of({"k": ["1", "2", "A", "01.50"] * 9})
    scanned = scan_table(raw, ColumnOptions(), MPI.COMM_SELF)
    encoding = fit_encoding(scanned, raw, MPI.COMM_SELF)
    assert encoding.columns[0].levels == ("01.50", "1", "2", "A")
    found = encoding.transform({"k": [2, 1.5, 7]})
    np.testing.assert_array_equal(found, [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])


def test_settings_of_columns_are_written_and_read_as_toml(tmp_path):
    job = tmp_path / "job.toml"
    job.write_text('[data]\ncolumns = { age = "number", "zip code" = "category" }\n')
    config = load_job(job)
    assert config.data.columns == {"age": "number", "zip code": "category"}
    job.write_text(to_toml(config))
    assert load_job(job) == config
    for text, words in (
        ('columns = { age = "numbers" }', "data.columns.age: 'numbers' is not one of"),
        ('columns = ["age"]', "data.columns: expected a table"),
        ('gaps = "keep"', "data.gaps: 'keep' is not one of impute, refuse"),
    ):
        job.write_text(f"[data]\n{text}\n")
        with pytest.raises(ConfigError) as caught:
            load_job(job)
        assert words in str(caught.value)


def test_percent_signs_are_in_all_numbers_or_in_none(comm):
    columns = {"rate": ["5%", "25 %", "0"] * 10, "size": [1.0, 2.0, 3.0] * 10}
    encoding = encoding_from_json(encoding_to_json(fitted(columns, comm)))
    assert [one.unit for one in encoding.columns] == ["%", ""]
    np.testing.assert_array_equal(
        encoding.transform({"rate": ["25%", 0], "size": ["1", "2"]}), [[0.25, 1], [0, 2]]
    )
    np.testing.assert_array_equal(encoding.transform({"rate": [0.25], "size": [1]}), [[0.25, 1]])
    for rate, size, word in (
        ("25", "1", "'25' is not a number in %"),
        ("5%", "1%", "'1%' is not a number without a percent"),
    ):
        with pytest.raises(InputError, match=word):
            encoding.transform({"rate": [rate], "size": [size]})
    refused(comm, {"rate": ["5%", "25", "7%"] * 10}, "with and without a percent sign")


def test_an_amount_in_another_currency_is_refused(comm):
    encoding = fitted({"price": ["$1", "2", "$3"] * 10, "n": [1.0, 2.0, 3.0] * 10}, comm)
    np.testing.assert_array_equal(encoding.transform({"price": ["4"], "n": [1]}), [[4, 1]])
    with pytest.raises(InputError, match="is not a number in"):
        encoding.transform({"price": ["4 EUR"], "n": [1]})


def test_an_array_has_the_columns_of_the_model_or_all_columns(comm):
    columns = {"x1": [1.0, 2.0, None] * 10, "x2": [7.0] * 30, "x3": ["a", "b", "a"] * 10}
    encoding = encoding_from_json(encoding_to_json(fitted(columns, comm)))
    assert encoding.names == ("x1", "x2", "x3")
    assert encoding.input_names == ("x1", "x3")
    whole = encoding.transform([[1.0, 7.0, "b"]])
    np.testing.assert_array_equal(whole, encoding.transform([[1.0, "b"]]))
    np.testing.assert_array_equal(whole, [[1, 0, 0, 1]])
    with pytest.raises(InputError, match="rows of 4 columns: the model takes 2, or all 3"):
        encoding.transform([[1.0, 7.0, "b", 1.0]])
