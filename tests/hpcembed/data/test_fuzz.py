"""Mutated files: each is read, or raises an error of one line."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mpi4py import MPI

from hpcembed.data.reading import read_dataset
from hpcembed.data.settings import DataSettings
from hpcembed.data.tables.matrix_market import read_matrix
from hpcembed.runtime.errors import HpcembedError

ROWS = np.random.default_rng(0).standard_normal((12, 3)).astype("f4")
LABELS = np.arange(12, dtype=np.uint8) % 3


def _idx() -> bytes:
    return b"\0\0\x0d\x02" + struct.pack(">2I", 12, 3) + ROWS.astype(">f4").tobytes()


def _npz(compress: bool) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(stream, x=ROWS, y=LABELS)
    return stream.getvalue()


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, ROWS)
    return stream.getvalue()


def _lines(separator: str, form: str) -> bytes:
    return "\n".join(
        separator.join(
            [f"k{label % 2}", *(form.format(j + 1, value) for j, value in enumerate(row))]
        )
        for label, row in zip(LABELS, ROWS, strict=True)
    ).encode()


def _csv() -> bytes:
    return b'kind,a,"b c",d\n' + _lines(",", "{1}")


def _svm() -> bytes:
    return _lines(" ", "{0}:{1}").replace(b"k", b"")


def _triplets(banner: bytes) -> bytes:
    entries = [f"{i + 1} {j + 1} {ROWS[i, j]}" for i in range(12) for j in range(3)]
    return banner + b"12 3 36\n" + "\n".join(entries).encode()


BANNER = b"%%MatrixMarket matrix coordinate real general\n% comment\n"
WITH_LABELS = {"train_labels": "y.txt"}
KINDS = {
    "idx": (_idx(), "idx", WITH_LABELS),
    "idx.gz": (gzip.compress(_idx()), "idx", WITH_LABELS),
    "npy": (_npy(), "npy", WITH_LABELS),
    "npz": (_npz(False), "npz", {}),
    "npz compressed": (_npz(True), "npz", {}),
    "csv": (_csv(), "csv", {"label_column": "kind"}),
    "csv.gz": (gzip.compress(_csv()), "csv", {"label_column": "kind"}),
    "svm": (_svm(), "svmlight", {}),
    "mtx": (_triplets(BANNER), "matrix_market", WITH_LABELS),
    "triplets": (_triplets(b""), "matrix_market", WITH_LABELS),
    "cifar10": (bytes(3073 * 2), "cifar10", {}),
}
FRAGMENTS = [
    b"", b"\0", b"\n", b"\r", b"\r\n", b" ", b",", b'"', b"-", b"nan", b"inf", b"1e999", b"#",
    b"%", b":", b"0", b"9" * 30, b"\xff\xff\xff\xff", b"\x80", b"1.5", b"qid:3", b"(", b"'",
]  # fmt: skip


@st.composite
def mutations(draw, content: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        width = draw(st.sampled_from([0, 0, 1, 1, 2, 4, 9, len(content)]))
        piece = draw(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=4)))
        content = content[:place] + piece + content[place + width :]
    return content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "y.txt").write_text("".join(f"{label}\n" for label in LABELS))
    return tmp_path


@pytest.mark.parametrize("kind", list(KINDS))
def test_mutated_files_are_read_or_refused(kind, folder):
    original, file_format, others = KINDS[kind]
    config = DataSettings(format=file_format, train=("a",), test_fraction=0.4, **others)

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(mutations(original))
    def check(content: bytes) -> None:
        (folder / "a").write_bytes(content)
        data = _read_or_refused(
            lambda: read_dataset(config, folder, MPI.COMM_SELF, available_bytes=2**28)
        )
        if data is not None:
            assert data.train.n_rows == len(data.train.labels.codes) == data.train.rows.shape[0]
            assert np.isfinite(_values(data.train.rows)).all()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check()


def _read_or_refused(read):
    error = None
    try:
        return read()
    except HpcembedError as caught:
        error = str(caught)
    assert len(error) > 10
    assert "\n" not in error
    return None


def _values(rows) -> np.ndarray:
    return rows if isinstance(rows, np.ndarray) else rows.data


@settings(max_examples=150, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(content=mutations(_triplets(b"")))
def test_mutated_matrices(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    matrix = _read_or_refused(lambda: read_matrix(tmp_path / "a"))
    if matrix is not None:
        assert np.isfinite(_values(matrix)).all()


def test_an_archive_with_wrong_contents(folder):
    with zipfile.ZipFile(folder / "a", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(10**7))
        archive.writestr("y.npy", _npy())
    config = DataSettings(format="npz", train=("a",))
    with pytest.raises(HpcembedError, match="not an NPY array"):
        read_dataset(config, folder, MPI.COMM_SELF)
