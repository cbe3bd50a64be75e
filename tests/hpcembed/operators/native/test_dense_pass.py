"""Compiled passes over dense rows, against numpy in double precision."""

import shutil

import numpy as np
import pytest

from hpcembed.operators.native import stored_rows
from hpcembed.operators.native.dense_pass import dense_pass
from hpcembed.operators.native.stored_rows import STORED_TYPES, StoredRows
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.machine import native_library as library
from stored_samples import sample

SUPPORTED = library.supported_sets()

needs_library = pytest.mark.skipif(not SUPPORTED, reason="built without a C compiler")

#: Error of sums in float32 and float64, relative to the sums of the moduli: 180 roundings.
TOLERANCES = {np.dtype(np.float32): 180 * 2.0**-24, np.dtype(np.float64): 180 * 2.0**-53}


def check(rows, V, offset=None, *, shift=None, factor=None, threads=1):
    """Compare all sums of a pass with numpy."""
    stored = StoredRows(rows, shift, factor)
    X = rows.astype(np.float64)
    X = X - (0 if shift is None else shift)
    X = X * (1 if factor is None else factor)
    check_sums(stored, X, V, offset, threads)


def check_sums(stored, X, V, offset=None, threads=1):
    sums = dense_pass(stored, V, offset, moments=True, threads=threads)
    Y = X @ V.astype(np.float64) - (0 if offset is None else offset)
    moduli = np.abs(X) @ np.abs(V) + (0 if offset is None else np.abs(offset))
    expected = (
        (sums.cross, X.T @ Y, np.abs(X).T @ moduli),
        (sums.columns, Y.sum(axis=0), moduli.sum(axis=0)),
        (sums.features, X.sum(axis=0), np.abs(X).sum(axis=0)),
        (sums.squares, (X**2).sum(axis=0), (X**2).sum(axis=0)),
    )
    tol = TOLERANCES[V.dtype]
    for found, exact, scale in expected:
        assert (np.abs(found - exact) <= tol * (scale + 1e-300)).all()


@needs_library
def test_the_compiler_of_this_machine_is_used():
    assert library.instruction_set() in SUPPORTED


def test_a_library_is_built_where_there_is_a_compiler():
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    assert SUPPORTED


@needs_library
@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("stored", sorted(kind.char for kind in STORED_TYPES))
def test_types(monkeypatch, name, precision, stored):
    monkeypatch.setenv("HPCEMBED_NATIVE", name)
    rows = sample(301, 257, stored)
    check(rows, sample(257, 19, precision, 1), sample(1, 19, precision, 2)[0])


@needs_library
@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("m", [1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 64, 65])
def test_numbers_of_columns(monkeypatch, name, precision, m):
    monkeypatch.setenv("HPCEMBED_NATIVE", name)
    check(sample(150, 33, precision), sample(33, m, precision, 1))


@needs_library
@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (5, 1), (1, 500), (143, 239), (144, 240),
                                   (145, 241), (4300, 3), (289, 721)])  # fmt: skip
def test_edges_of_blocks_and_panels(monkeypatch, name, shape):
    monkeypatch.setenv("HPCEMBED_NATIVE", name)
    check(sample(*shape, np.float32), sample(shape[1], 5, np.float32, 1))


@needs_library
@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize(
    "view",
    [
        lambda rows: np.asfortranarray(rows),
        lambda rows: rows[::2],
        lambda rows: rows[:, ::3],
        lambda rows: rows[::-1],
        lambda rows: rows[:, ::-1],
        lambda rows: np.broadcast_to(rows[:1], rows.shape),
    ],
    ids=["fortran", "rows", "columns", "reversed rows", "reversed columns", "broadcast"],
)
def test_strides(precision, view):
    rows = view(sample(300, 100, precision))
    check(rows, sample(rows.shape[1], 6, precision, 1))


@needs_library
@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("stored", ["f", "d", "B", "h"])
@pytest.mark.parametrize("shape", [(1, 5), (13, 143), (257, 145), (500, 12), (700, 300)])
def test_a_transposed_array(monkeypatch, name, precision, stored, shape):
    """Its rows are features, each with its own shift and factor."""
    monkeypatch.setenv("HPCEMBED_NATIVE", name)
    n, d = shape
    rows = sample(n, d, stored)
    shift, factor = rows[0].astype(np.float64), np.linspace(0.5, 2, d)
    V, offset = sample(n, 9, precision, 1), sample(1, 9, precision, 2)[0]
    X = rows.astype(np.float64)
    for a, b, scaled in (
        (None, None, X),
        (shift, None, X - shift),
        (None, factor, X * factor),
        (shift, factor, (X - shift) * factor),
    ):
        transposed = StoredRows(rows, a, b).transposed
        # each rounding of an entry is relative to the entry as it is stored
        if a is None or precision == np.float64:
            check_sums(transposed, scaled.T, V, offset, threads=2)
        back = transposed.transposed
        assert not back.by_rows
        assert back.rows.shape == shape
    # the features of a column-major array
    exact_shift = None if stored == "d" and precision == np.float32 else shift
    V = sample(d, 9, precision, 3)
    check(np.asfortranarray(rows), V, shift=exact_shift, factor=factor)


@needs_library
@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(60, 300), (300, 60)])
@pytest.mark.parametrize(
    "view",
    [
        np.asfortranarray,
        lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
        lambda rows: rows[:, ::-1],
    ],
    ids=["fortran", "columns", "reversed columns"],
)
def test_the_transpose_of_any_array(precision, shape, view):
    rows = view(sample(*shape, precision) + precision(3))
    shift, factor = rows[0].astype(np.float64), np.linspace(0.5, 2, shape[1])
    X = (rows.astype(np.float64) - shift) * factor
    check_sums(StoredRows(rows, shift, factor).transposed, X.T, sample(shape[0], 5, precision, 1))


@needs_library
def test_threads_of_a_transposed_array_have_their_own_numbers(monkeypatch):
    monkeypatch.setattr(stored_rows, "_THREAD_WORK", 1)
    rows = sample(40, 1000, np.float64)
    shift = np.arange(1000.0)
    transposed = StoredRows(rows, shift).transposed
    check_sums(transposed, (rows - shift).T, sample(40, 4, np.float64), threads=3)


@needs_library
@pytest.mark.parametrize("scaled", ["shift", "factor", "shift factor"])
def test_shift_and_factor(scaled):
    rng = np.random.default_rng(3)
    keywords = {name: rng.uniform(0.5, 2.0, 70) for name in scaled.split()}
    V = sample(70, 4, np.float64, 1)
    check(sample(200, 70, np.uint8), V, sample(1, 4, np.float64, 2)[0], **keywords)


@needs_library
@pytest.mark.parametrize("threads", [2, 3, 50])
def test_threads(monkeypatch, threads):
    monkeypatch.setattr(stored_rows, "_THREAD_WORK", 1)
    check(sample(1000, 50, np.float32), sample(50, 10, np.float32, 1), threads=threads)


@needs_library
def test_rows_without_moments_have_no_sums_of_features():
    sums = dense_pass(StoredRows(sample(9, 4, np.float32)), sample(4, 2, np.float32, 1))
    assert sums.features is None
    assert sums.squares is None


def test_none_selects_numpy(monkeypatch):
    monkeypatch.setenv("HPCEMBED_NATIVE", "none")
    assert library.instruction_set() is None


def test_an_unknown_instruction_set_is_refused(monkeypatch):
    monkeypatch.setenv("HPCEMBED_NATIVE", "altivec")
    with pytest.raises(ConfigError, match="HPCEMBED_NATIVE=altivec: not available here; use none"):
        library.instruction_set()


def test_without_a_library_numpy_is_used(monkeypatch, tmp_path):
    library.load.cache_clear()
    monkeypatch.setattr(library, "PATH", tmp_path / "passes.so")
    monkeypatch.delenv("HPCEMBED_NATIVE", raising=False)
    try:
        assert library.instruction_set() is None
    finally:
        library.load.cache_clear()
