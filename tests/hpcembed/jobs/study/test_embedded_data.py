"""The fingerprint of data: the same on any number of ranks, another one for other data."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mpi4py import MPI
from sklearn.datasets import load_wine

from hpcembed.jobs.compact.requests import configured, tables_of
from hpcembed.jobs.configuration import JobConfig
from hpcembed.jobs.job import place
from hpcembed.jobs.study.embedded_data import embed_data
from hpcembed.runtime.ranks import ownership_range


def fingerprint_of(X, y, comm, **keys):
    mine = slice(*ownership_range(len(y), comm))
    data = {"name": "data", "scaling": "standard", **keys}
    config = configured(JobConfig, {"data": data, "embedding": {"n_components": 2}}, None)
    job = place(config, Path(), None, Path("never-written"), comm)
    job = dataclasses.replace(job, tables=tables_of(X[mine], y[mine], None, comm))
    found = embed_data(job)
    found.destroy()
    return found.fingerprint


@pytest.fixture(scope="module")
def wine():
    return load_wine(return_X_y=True)


@pytest.fixture
def table(wine):
    frame = pd.DataFrame(wine[0], columns=[f"c{i}" for i in range(13)])
    frame["colour"] = np.where(frame["c0"] > 13, "red", "white")
    frame.loc[::7, "c1"] = np.nan
    return frame


@pytest.mark.mpi
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_standardised_rows_on_any_number_of_ranks(comm, wine, task):
    X, y = wine
    assert fingerprint_of(X, y, comm, task=task) == fingerprint_of(X, y, MPI.COMM_SELF, task=task)


@pytest.mark.mpi
def test_encoded_columns_on_any_number_of_ranks(comm, table, wine):
    expected = fingerprint_of(table, wine[1], MPI.COMM_SELF)
    assert fingerprint_of(table, wine[1], comm) == expected


def test_changed_data_have_another_fingerprint(wine):
    X, y = wine
    before = fingerprint_of(X, y, MPI.COMM_SELF)
    changed = X.copy()
    changed[3, 4] *= 1 + 1e-12
    assert fingerprint_of(changed, y, MPI.COMM_SELF) != before
    # Mean and variance of every feature are unchanged.
    swapped = X.copy()
    swapped[[0, 1]] = X[[1, 0]]
    assert y[0] == y[1]
    assert fingerprint_of(swapped, y, MPI.COMM_SELF) != before
    assert fingerprint_of(X, y, MPI.COMM_SELF, scaling="minmax") != before
