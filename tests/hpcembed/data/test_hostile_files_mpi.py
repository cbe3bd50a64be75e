"""A file that is damaged on one rank alone: all ranks raise the error."""

from __future__ import annotations

import numpy as np
import pytest

from fuzzing.formats import formats, write_files
from hpcembed.data.graphs.reading import read_labelled_graph
from hpcembed.data.reading import read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.data.text.reading import read_text
from hpcembed.runtime.errors import HpcembedError

LABELS = {"train_labels": "y.txt"}
KEYS = {
    "npy": {"train": ("a.npy",), **LABELS},
    "npz": {"train": ("a.npz",)},
    "sparse npz": {"train": ("a.npz",), **LABELS},
    "idx": {"train": ("a.idx",), **LABELS},
    "cifar10": {"train": ("a.bin",)},
    "hdf5": {"train": ("a.h5",)},
    "anndata": {"train": ("a.h5ad",), "labels_key": "obs/kind"},
    "matlab 5": {"train": ("a.mat",)},
    "matlab 7.3": {"train": ("a.mat",)},
    "svmlight": {"train": ("a.svm",)},
    "matrix market": {"train": ("a.mtx",), **LABELS},
    "parquet": {"train": ("a.parquet",), "label_column": "kind"},
    "arrow": {"train": ("a.arrow",), "label_column": "kind"},
    "images png": {"train": ("a",), "format": "images"},
    "images tiff": {"train": ("a",), "format": "images"},
}


def damaged(files, part):
    """Cut the last of the files to a part, which no format can read."""
    name = max(files, key=lambda one: (one != "y.txt", one))
    return {**files, name: files[name][: int(len(files[name]) * part)] + b"\xff:x"}


def folder_of(name, comm, tmp_path, part):
    """Write the same files on each rank, and damaged ones on the last rank."""
    files = formats()[name].valid(np.random.default_rng(3))[0]
    if comm.rank == comm.size - 1:
        files = damaged(files, part)
    write_files(files, tmp_path)
    return tmp_path


@pytest.mark.mpi
@pytest.mark.parametrize("part", [0.0, 0.5])
@pytest.mark.parametrize("name", KEYS)
def test_a_damaged_table_on_one_rank(name, part, comm, tmp_path):
    folder = folder_of(name, comm, tmp_path, part)
    config = DataSettings(test_fraction=0.4, **KEYS[name])
    with pytest.raises(HpcembedError) as caught:
        read_dataset(config, folder, comm)
    texts = comm.allgather(str(caught.value))
    assert len(set(texts)) == 1
    assert "\n" not in texts[0]
    assert comm.allreduce(1) == comm.size  # no rank is left in another call


@pytest.mark.mpi
@pytest.mark.parametrize("name", ["edges", "graph npz", "graph mtx", "text tar", "text csv"])
def test_a_damaged_graph_or_text_on_one_rank(name, comm, tmp_path):
    folder = folder_of(name, comm, tmp_path, 0.4)
    with pytest.raises(HpcembedError) as caught:
        if name.startswith("text"):
            keys = {"text_column": "text", "label_column": "kind"} if name == "text csv" else {}
            format = name.replace(" ", "_")
            path = folder / ("a.csv" if name == "text csv" else "a.tar")
            read_text(path, comm, format=format, **keys)
        else:
            path = next(one for one in folder.iterdir() if one.name.startswith("a."))
            read_labelled_graph(path, comm)
    assert len(set(comm.allgather(str(caught.value)))) == 1
