"""An index of faiss that takes whole embeddings and holds reduced ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hpcembed.networks.retrieval.reduction import EmbeddingReduction
from hpcembed.runtime.arguments import check_choice
from hpcembed.runtime.optional import optional_imports
from hpcembed.runtime.output.files import check_free, output_error

__all__ = ["faiss_index", "write_faiss_index"]

Storage = Literal["float32", "int8"]


def faiss_index(
    reduction: EmbeddingReduction, rows: NDArray[Any], storage: Storage = "int8"
) -> Any:
    """Return an ``IndexPreTransform``: projection, normalisation, then exact search by cosines.

    The projection of a whitened reduction includes the division by the standard deviations.

    Parameters
    ----------
    reduction : EmbeddingReduction
    rows : ndarray of shape (n, d)
        Whole embeddings, which the index reduces and holds.
    storage : {"int8", "float32"}
        One or four bytes for a coordinate. The codes of bytes are those of faiss
        (``QT_8bit``), with the range of `rows`. faiss has no float8.

    Raises
    ------
    MissingPackageError
        If faiss is not installed.
    ConfigError
        If `storage` is unknown.
    """
    check_choice("storage", storage, get_args(Storage))
    with optional_imports():
        import faiss
    k, d = reduction.components.shape
    projection = faiss.LinearTransform(d, k, True)
    matrix = np.ascontiguousarray(reduction.projection, dtype=np.float32)
    faiss.copy_array_to_vector(matrix.ravel(), projection.A)
    shift = (-reduction.projection @ reduction.mean).astype(np.float32)
    faiss.copy_array_to_vector(shift, projection.b)
    projection.is_trained = True
    if storage == "int8":
        kind = faiss.ScalarQuantizer.QT_8bit
        inner: Any = faiss.IndexScalarQuantizer(k, kind, faiss.METRIC_INNER_PRODUCT)
    else:
        inner = faiss.IndexFlatIP(k)
    index = faiss.IndexPreTransform(inner)
    index.prepend_transform(faiss.NormalizationTransform(k, 2.0))
    index.prepend_transform(projection)
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    index.train(rows)
    index.add(rows)
    return index


def write_faiss_index(
    reduction: EmbeddingReduction, rows: NDArray[Any], path: Path | str, storage: Storage = "int8"
) -> Path:
    """Write the index of :func:`faiss_index` to a file for ``faiss.read_index``.

    Raises
    ------
    MissingPackageError
        If faiss is not installed.
    OutputError
        If the file exists or cannot be written.
    """
    path = Path(path)
    check_free(path)
    index = faiss_index(reduction, rows, storage)
    import faiss

    try:
        path.write_bytes(faiss.serialize_index(index).tobytes())
    except OSError as error:
        raise output_error(path, error) from error
    return path
