"""Columns without information in a table of numbers: found on any number of ranks, and named."""

import numpy as np
import pytest

from hpcembed.data.columns.superfluous import superfluous_columns, superfluous_line
from hpcembed.data.reading import read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.runtime.ranks import ownership_range

N = 60


@pytest.fixture
def columns():
    rng = np.random.default_rng(0)
    return {
        "size": rng.normal(size=N),
        "row": np.arange(N) + 7.0,
        "one": np.ones(N),
        "customer": rng.permutation(N) * 3.0 + 1000,
        "count": rng.integers(0, 9, N) * 1.0,
        "steps": np.arange(N) / 2,
    }


@pytest.mark.mpi
def test_found_on_any_number_of_ranks(columns, comm):
    rows = np.column_stack(list(columns.values()))[slice(*ownership_range(N, comm))]
    found = superfluous_columns(np.ascontiguousarray(rows), list(columns), comm)
    assert found == {
        "constant": ["one"],
        "count the rows": ["row"],
        "a different integer in each row": ["customer"],
    }


@pytest.mark.mpi
def test_few_rows_show_constants_only(columns, comm):
    rows = np.column_stack(list(columns.values()))[:6][slice(*ownership_range(6, comm))]
    found = superfluous_columns(np.ascontiguousarray(rows), list(columns), comm)
    assert list(found.values()) == [["one"], [], []]


def test_line_is_short():
    line = superfluous_line({"constant": [f"c{i}" for i in range(700)]})
    assert "c0, c1, c2, c3, c4 and 695 more (constant): leave them out with" in line


@pytest.mark.mpi
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_of_numbers(columns, comm, shared_tmp, ending, caplog):
    import pandas as pd

    caplog.set_level("INFO", "hpcembed")
    path = shared_tmp / f"table.{ending}"
    if comm.rank == 0:
        frame = pd.DataFrame({**columns, "kind": np.where(columns["size"] > 0, "a", "b")})
        frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    comm.Barrier()
    config = DataSettings(train=(path.name,), label_column="kind")
    read_dataset(config, shared_tmp, comm)
    words = "one (constant); row (count the rows); customer (a different integer in each row)"
    assert caplog.text.count(words) == (comm.rank == 0)
