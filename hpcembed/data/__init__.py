"""Labelled data: a file in, this rank's rows out; class codes, splits, scaling, synthetic data."""

from hpcembed.data.labels import MAX_CLASSES
from hpcembed.data.matrix_market import read_matrix
from hpcembed.data.reading import describe_dataset, read_dataset
from hpcembed.data.scaling import fit_scaling
from hpcembed.data.splits import held_out_rows
from hpcembed.data.synthetic import (
    planted_covariance,
    planted_directions,
    write_winnipeg_like,
)
from hpcembed.data.table import Dataset, Description, Scaling, Table

__all__ = [
    "MAX_CLASSES",
    "Dataset",
    "Description",
    "Scaling",
    "Table",
    "describe_dataset",
    "fit_scaling",
    "held_out_rows",
    "planted_covariance",
    "planted_directions",
    "read_dataset",
    "read_matrix",
    "write_winnipeg_like",
]
