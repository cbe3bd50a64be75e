"""The peer: pipelines of scikit-learn, from a file to predictions of test rows.

Each pipeline fills gaps, encodes categories, scales, reduces by principal components and trains an
MLP. Number of components, hidden layers and penalty are chosen by 3-fold cross-validation on fewer
than 500 training rows, else on a quarter of the training rows. The lines of the functions of a peer
are counted for the table.
"""

from __future__ import annotations

import inspect
import io
import tokenize
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse
from PIL import Image
from sklearn.compose import (
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.datasets import load_svmlight_file
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from everyday_parts.sets import EverydaySet, Part

__all__ = ["peer_lines", "peer_predictions", "read_part"]


def read_csv(part: Part, label: str) -> tuple[Any, Any]:
    table = pd.read_csv(part.file, thousands=",")
    table = table.drop(columns="Unnamed: 0", errors="ignore")
    for name in table.select_dtypes(exclude="number").columns.drop(label, errors="ignore"):
        for format in ("%Y-%m-%d", "%Y/%m/%d"):
            dates = pd.to_datetime(table[name], format=format, errors="coerce")
            if dates.notna().all():
                table[name] = dates.dt.dayofyear
                table[name + " days"] = (dates - pd.Timestamp("1970-01-01")).dt.days
    return table.drop(columns=label), table[label]


def read_european_csv(part: Part, label: str) -> tuple[Any, Any]:
    table = pd.read_csv(part.file, sep=";", decimal=",", index_col=0)
    return table.drop(columns=label), table[label]


def read_parquet(part: Part, label: str) -> tuple[Any, Any]:
    table = pd.read_parquet(part.file)
    return table.drop(columns=label), table[label]


def read_arrow(part: Part, label: str) -> tuple[Any, Any]:
    table = pd.read_feather(part.file)
    return table.drop(columns=label), table[label]


def read_images(part: Part, label: str) -> tuple[Any, Any]:
    paths = sorted(part.file.rglob("*.png"))
    rows = np.array([np.asarray(Image.open(path)).ravel() for path in paths])
    return rows, np.array([path.parent.name for path in paths])


def read_npy(part: Part, label: str) -> tuple[Any, Any]:
    rows = np.load(part.file)
    return rows.reshape(len(rows), -1), np.load(str(part.label_file))


def read_npz(part: Part, label: str) -> tuple[Any, Any]:
    with np.load(part.file) as file:
        return file["cells"], file["diagnosis"]


def read_embeddings(part: Part, label: str) -> tuple[Any, Any]:
    with np.load(part.file) as file:
        return file["embeddings"], file["labels"]


def read_matlab(part: Part, label: str) -> tuple[Any, Any]:
    file = scipy.io.loadmat(part.file)
    return file["X"], file["y"].ravel()


def read_sparse(part: Part, label: str) -> tuple[Any, Any]:
    return scipy.sparse.load_npz(part.file).toarray(), np.load(str(part.label_file))


def read_svmlight(part: Part, label: str) -> tuple[Any, Any]:
    rows, labels = load_svmlight_file(str(part.file))
    return rows.toarray(), labels.astype(int)


def read_anndata(part: Part, label: str) -> tuple[Any, Any]:
    with h5py.File(part.file) as file:
        parts = [file["X"][name][()] for name in ("data", "indices", "indptr")]
        rows = scipy.sparse.csr_matrix(tuple(parts), shape=file["X"].attrs["shape"])
        column = file["obs"][label]
        return rows.toarray(), column["categories"][()].astype(str)[column["codes"][()]]


#: Readers by the name of the format.
READERS: dict[str, Callable[[Part, str], tuple[Any, Any]]] = {
    "CSV": read_csv,
    "CSV; decimal commas": read_european_csv,
    "CSV of texts": read_csv,
    "Parquet": read_parquet,
    "Arrow": read_arrow,
    "PNG folders": read_images,
    "NPY + labels": read_npy,
    "NPZ": read_npz,
    "NPZ of embeddings": read_embeddings,
    "MATLAB": read_matlab,
    "sparse NPZ + labels": read_sparse,
    "SVMlight": read_svmlight,
    "AnnData": read_anndata,
}


def table_pipeline(rows: Any, labels: Any, network: Any) -> Any:
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
        StandardScaler(),
    )
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
    )
    pipeline = make_pipeline(columns, PCA(), network)
    return tuned(pipeline, "pca", [0.9, 0.99], len(rows)).fit(rows, labels)


def array_pipeline(rows: Any, labels: Any, network: Any) -> Any:
    steps = SimpleImputer(), StandardScaler(), PCA(), network
    return tuned(make_pipeline(*steps), "pca", [0.9, 0.99], len(rows)).fit(rows, labels)


def text_pipeline(rows: Any, labels: Any, network: Any) -> Any:
    steps = TfidfVectorizer(), TruncatedSVD(random_state=0), StandardScaler(), network
    pipeline = tuned(make_pipeline(*steps), "truncatedsvd", [50, 200], len(rows))
    return pipeline.fit(rows.iloc[:, 0], labels)


def tuned(pipeline: Any, reduction: str, sizes: list[Any], n_rows: int) -> Any:
    name, network = pipeline.steps[-1]
    inner = "regressor__" if isinstance(network, TransformedTargetRegressor) else ""
    grid = {
        f"{reduction}__n_components": sizes,
        f"{name}__{inner}hidden_layer_sizes": [(32, 32), (64, 64)],
        f"{name}__{inner}alpha": [1e-4, 1.0],
    }
    cv = 3 if n_rows < 500 else ShuffleSplit(1, test_size=0.25, random_state=0)
    return GridSearchCV(pipeline, grid, cv=cv)


def classifier() -> Any:
    return MLPClassifier(max_iter=300, random_state=0)


def regressor() -> Any:
    network = MLPRegressor(max_iter=300, random_state=0)
    return TransformedTargetRegressor(network, transformer=StandardScaler())


PIPELINES = {
    "table": table_pipeline,
    "array": array_pipeline,
    "images": array_pipeline,
    "text": text_pipeline,
}


def read_part(one: EverydaySet, part: Part) -> tuple[Any, Any]:
    """Return rows and labels of a file, read without this package."""
    return READERS[one.format](part, one.label)


def peer_predictions(one: EverydaySet, train: Part, test: Part) -> Any:
    """Return predictions of the test rows by the pipeline that the training rows choose."""
    network = regressor() if one.is_regression else classifier()
    fitted = PIPELINES[one.peer](*read_part(one, train), network)
    rows, _ = read_part(one, test)
    return fitted.predict(rows.iloc[:, 0] if one.peer == "text" else rows)


def peer_lines(one: EverydaySet) -> int:
    """Return the lines of code of a peer, without blank lines and comments; imports not counted."""
    network = regressor if one.is_regression else classifier
    parts = (READERS[one.format], PIPELINES[one.peer], tuned, network, peer_predictions)
    return sum(map(_lines_of, parts))


def _lines_of(function: Callable[..., Any]) -> int:
    """Return the lines of a function that have code."""
    source = inspect.getsource(function)
    if function.__doc__:
        source = source.replace(f'"""{function.__doc__}"""', "")
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return len(
        {token.start[0] for token in tokens if token.type not in skipped and token.string.strip()}
    )
