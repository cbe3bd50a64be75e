"""Files of the data sets, as people have them: one writer for each format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse
from PIL import Image
from sklearn.datasets import dump_svmlight_file

__all__ = ["WRITERS", "Written"]

#: A written part of a data set: the file of rows, and that of labels if it is another one.
Written = tuple[Path, Path | None]


def _csv(folder: Path, name: str, rows: pd.DataFrame, labels: Any, **options: Any) -> Written:
    """Write a CSV file; an index of row numbers or names becomes an unnamed first column."""
    path = folder / f"{name}.csv"
    rows.to_csv(path, **{"index": rows.index.name != "none", **options})
    return path, None


def _european_csv(folder: Path, name: str, rows: pd.DataFrame, labels: Any) -> Written:
    return _csv(folder, name, rows, labels, sep=";", decimal=",")


def _parquet(folder: Path, name: str, rows: pd.DataFrame, labels: Any) -> Written:
    path = folder / f"{name}.parquet"
    rows.to_parquet(path, index=False)
    return path, None


def _arrow(folder: Path, name: str, rows: pd.DataFrame, labels: Any) -> Written:
    path = folder / f"{name}.feather"
    rows.reset_index(drop=True).to_feather(path)
    return path, None


def _images(folder: Path, name: str, rows: Any, labels: Any) -> Written:
    """Write a folder of PNG files for each class."""
    for number, (image, label) in enumerate(zip(rows, labels, strict=True)):
        path = folder / name / str(label) / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder / name, None


def _npy(folder: Path, name: str, rows: Any, labels: Any) -> Written:
    np.save(folder / f"{name}.npy", rows)
    np.save(folder / f"{name}_labels.npy", labels)
    return folder / f"{name}.npy", folder / f"{name}_labels.npy"


def _npz(rows_name: str, labels_name: str) -> Callable[..., Written]:
    def write(folder: Path, name: str, rows: Any, labels: Any) -> Written:
        np.savez_compressed(folder / f"{name}.npz", **{rows_name: rows, labels_name: labels})
        return folder / f"{name}.npz", None

    return write


def _matlab(folder: Path, name: str, rows: Any, labels: Any) -> Written:
    scipy.io.savemat(folder / f"{name}.mat", {"X": rows, "y": np.asarray(labels)[:, None]})
    return folder / f"{name}.mat", None


def _sparse_npz(folder: Path, name: str, rows: Any, labels: Any) -> Written:
    scipy.sparse.save_npz(folder / f"{name}.npz", rows)
    np.save(folder / f"{name}_labels.npy", labels)
    return folder / f"{name}.npz", folder / f"{name}_labels.npy"


def _svmlight(folder: Path, name: str, rows: Any, labels: Any) -> Written:
    dump_svmlight_file(rows, labels, str(folder / f"{name}.svm"), zero_based=False)
    return folder / f"{name}.svm", None


def _anndata(folder: Path, name: str, rows: Any, labels: Any) -> Written:
    """Write the layout of AnnData: X as CSR in a group, obs/cell_type as categories and codes."""
    categories, codes = np.unique(labels, return_inverse=True)
    with h5py.File(folder / f"{name}.h5ad", "w") as file:
        matrix = file.create_group("X")
        matrix.attrs["encoding-type"] = "csr_matrix"
        matrix.attrs["shape"] = rows.shape
        for part in ("data", "indices", "indptr"):
            matrix.create_dataset(part, data=getattr(rows, part))
        column = file.create_group("obs/cell_type")
        column.attrs["encoding-type"] = "categorical"
        column.create_dataset("categories", data=categories.astype("S"))
        column.create_dataset("codes", data=codes.astype(np.int8))
        genes = [f"gene{number}" for number in range(rows.shape[1])]
        file.create_group("var").attrs["_index"] = "_index"
        file["var"].create_dataset("_index", data=np.array(genes, dtype="S"))
    return folder / f"{name}.h5ad", None


#: Writers by the name of the format: ``writer(folder, name, rows, labels)``.
WRITERS: Mapping[str, Callable[..., Written]] = {
    "CSV": _csv,
    "CSV; decimal commas": _european_csv,
    "CSV of texts": _csv,
    "Parquet": _parquet,
    "Arrow": _arrow,
    "PNG folders": _images,
    "NPY + labels": _npy,
    "NPZ": _npz("cells", "diagnosis"),
    "NPZ of embeddings": _npz("embeddings", "labels"),
    "MATLAB": _matlab,
    "sparse NPZ + labels": _sparse_npz,
    "SVMlight": _svmlight,
    "AnnData": _anndata,
}
