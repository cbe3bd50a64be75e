"""Streamed rows: every format, its errors, and estimators on them."""

import dataclasses
import gzip
import struct
import threading

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from hpcembed import open_rows
from hpcembed.data import file_validation, row_stream
from hpcembed.data.arrays import stored_array
from hpcembed.embedding import PCA, TruncatedSVD
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.ranks import allgather_rows
from released_frames import releases_frames

ROWS = np.random.default_rng(0).standard_normal((211, 12)) * np.geomspace(2, 0.1, 12) + 1


def write(folder, kind, rows=ROWS):
    """Write a file or files of a kind; return the argument of open_rows."""
    if kind == "npy":
        np.save(folder / "x.npy", rows)
        return folder / "x.npy"
    if kind in ("npz", "compressed npz"):
        save = np.savez if kind == "npz" else np.savez_compressed
        paths = [folder / f"part{i}.npz" for i in range(3)]
        for path, part in zip(paths, np.array_split(rows, 3), strict=True):
            save(path, x=part)
        return paths
    if kind == "hdf5":
        with h5py.File(folder / "x.h5", "w") as file:
            file.create_dataset("x", data=rows, chunks=(20, 4))
        return folder / "x.h5"
    if kind == "idx":
        head = bytes([0, 0, 0x0D if rows.dtype == np.float32 else 0x0E, 2])
        head += struct.pack(">2I", *rows.shape)
        path = folder / "x-idx2-double.gz"
        path.write_bytes(gzip.compress(head + rows.astype(rows.dtype.newbyteorder(">")).tobytes()))
        return path
    table = pyarrow.table({f"c{j}": rows[:, j] for j in range(rows.shape[1])})
    pyarrow.parquet.write_table(table, folder / "x.parquet", row_group_size=50)
    return str(folder / "x.parquet")


KINDS = ["npy", "npz", "compressed npz", "hdf5", "idx", "parquet"]


@pytest.fixture(name="make")
def written_once(comm, shared_tmp):
    """Write files on rank 0 and broadcast their paths."""

    def make(kind, rows=ROWS):
        paths = write(shared_tmp, kind, rows) if comm.rank == 0 else None
        return comm.bcast(paths)

    return make


@pytest.mark.mpi
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stored", [np.float32, np.float64])
def test_every_row_occurs_once(comm, make, monkeypatch, kind, stored):
    for module in (file_validation, stored_array, row_stream):
        monkeypatch.setattr(module, "BLOCK_BYTES", 1000)
    stream = open_rows(make(kind, ROWS.astype(stored)), comm)
    assert (stream.n_rows, stream.n_features) == ROWS.shape
    assert stream.stored_type == stored
    assert stream.row_range[1] - stream.row_range[0] == stream.n_local
    for dtype in (np.float32, np.float64):
        found = np.empty((stream.n_local, 12))
        count = 0
        for first, block in stream.blocks(dtype):
            assert first == count
            assert block.dtype == dtype
            found[first : first + len(block)] = block
            count += len(block)
        assert count == stream.n_local
        whole = allgather_rows(comm, found)
        np.testing.assert_array_equal(whole, ROWS.astype(stored).astype(dtype))


@pytest.mark.mpi
@pytest.mark.parametrize("engine", ["assembled", "matrix_free", "block", "auto"])
def test_estimators_on_streamed_rows(comm, make, engine):
    exact = np.linalg.eigvalsh(np.cov(ROWS.T))[::-1]
    stream = open_rows(make("npy"), comm)
    pca = PCA(4, engine=engine).fit(stream)
    np.testing.assert_allclose(pca.explained_variance_, exact[:4], rtol=1e-9)
    coordinates = allgather_rows(comm, pca.transform(stream))
    np.testing.assert_allclose(
        coordinates, (ROWS - ROWS.mean(axis=0)) @ pca.components_.T, atol=1e-12
    )
    assert pca.score(stream) == pytest.approx(PCA(4).fit(ROWS).score(ROWS), rel=1e-9)
    svd = TruncatedSVD(3, engine=engine).fit(stream)
    np.testing.assert_allclose(
        svd.singular_values_, np.linalg.svd(ROWS, compute_uv=False)[:3], rtol=1e-9
    )


@pytest.mark.mpi
def test_wide_files_by_their_rows(comm, make):
    wide = np.random.default_rng(1).standard_normal((30, 200)) * np.geomspace(2, 0.1, 30)[:, None]
    pca = PCA(3, engine="gram").fit(open_rows(make("npy", wide), comm))
    np.testing.assert_allclose(
        pca.explained_variance_, np.linalg.eigvalsh(np.cov(wide.T))[::-1][:3], rtol=1e-9
    )


@pytest.mark.mpi
def test_other_files_on_another_rank(comm, shared_tmp):
    """The same rows in another folder are the same; another name or other contents are not."""
    if comm.size == 1:
        pytest.skip("needs two ranks")
    is_last = comm.rank == comm.size - 1
    folder = shared_tmp / f"of-{comm.rank}"
    folder.mkdir()
    np.save(folder / "rows.npy", ROWS)
    np.save(folder / "part.npy", ROWS[: 20 + is_last])
    np.save(folder / f"{comm.rank}.npy", ROWS)
    pca = PCA(3).fit(open_rows(folder / "rows.npy", comm))
    assert pca.n_samples_ == len(ROWS)
    for name, there in (("part.npy", "other contents"), (f"{comm.rank}.npy", r"0\.npy")):
        with pytest.raises(InputError, match=f"rank 0 has {there}: list all files on every rank"):
            open_rows(folder / name, comm)


def test_names_memory_and_columns(tmp_path):
    path = write(tmp_path, "parquet")
    assert open_rows(path, columns="c3").feature_names == ("c3",)
    with pytest.raises(InputError, match=r"columns = \[\] selects none: name one, or omit"):
        open_rows(path, columns=[])
    stream = open_rows(path, columns=["c3", "c1"])
    assert stream.feature_names == ("c3", "c1")
    pca = PCA(1).fit(stream)
    assert pca.feature_names_in_.tolist() == ["c3", "c1"]
    assert stream.buffer_bytes == 3 * file_validation.BLOCK_BYTES
    (_, first), *_ = stream.blocks()
    np.testing.assert_array_equal(first, ROWS[: len(first), [3, 1]])


def test_an_interrupted_pass_ends_its_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_array, "BLOCK_BYTES", 1000)
    blocks = open_rows(write(tmp_path, "npy")).blocks()
    next(blocks)
    blocks.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_files_that_change_are_named(tmp_path):
    path = write(tmp_path, "npy")
    stream = open_rows(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"x.npy: truncated"):
        list(stream.blocks())
    path.unlink()
    with pytest.raises(InputError, match=r"x.npy"):
        PCA(2).fit(stream)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: folder / "none.npy", "none.npy"),
        (
            lambda folder: folder / "table.csv",
            "table.csv: cannot be streamed: give one of .npy, .npz, .h5, .*, .parquet$",
        ),
        (lambda folder: [], "no files to stream"),
        (lambda folder: folder / "absent.npy", "absent.npy: no such file$"),  # without --data-dir
        (
            lambda folder: [write(folder, "npy"), write(folder, "hdf5", ROWS[:, :5])],
            "x.h5:x: 5 features of type float64, unlike",
        ),
    ],
)
def test_files_that_cannot_be_streamed(tmp_path, spoil, message):
    with pytest.raises(InputError, match=message):
        open_rows(spoil(tmp_path))


def test_columns_that_cannot_be_streamed(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(ROWS))
    with pytest.raises(InputError, match="stored by columns"):
        open_rows(tmp_path / "f.npy")
    np.save(tmp_path / "flat.npy", ROWS[0])
    with pytest.raises(InputError, match=r"shape \(rows, features\) is needed"):
        open_rows(tmp_path / "flat.npy")
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [1.0, None], "b": ["x", "y"]}), path)
    with pytest.raises(InputError, match="column 'b' contains string, not numbers"):
        open_rows(path)
    with pytest.raises(InputError, match="no column 'c'; it has a, b"):
        open_rows(path, columns=["c"])
    with pytest.raises(InputError, match="column 'a' lacks 1 values in rows 1 to 2"):
        list(open_rows(path, columns=["a"]).blocks())
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        open_rows(path)


def test_columns_of_several_tables_are_joined_by_name(tmp_path):
    for i, names in enumerate(("abc", "cba")):
        table = pyarrow.table({name: ROWS[:, "abc".index(name)] for name in names})
        pyarrow.parquet.write_table(table, tmp_path / f"{i}.parquet")
    stream = open_rows([tmp_path / "0.parquet", tmp_path / "1.parquet"])
    rows = np.vstack([block.copy() for _, block in stream.blocks()])
    np.testing.assert_array_equal(rows, np.vstack([ROWS[:, :3], ROWS[:, :3]]))
    table = pyarrow.table(dict.fromkeys("xyz", ROWS[:, 0]))
    pyarrow.parquet.write_table(table, tmp_path / "2.parquet")
    with pytest.raises(InputError, match="no column 'a'; it has x, y, z"):
        open_rows([tmp_path / "0.parquet", tmp_path / "2.parquet"])


@pytest.mark.mpi
@pytest.mark.parametrize("engine", ["assembled", "matrix_free", "block", "gram"])
def test_a_file_that_ends_early_on_one_rank_stops_all(comm, make, engine):
    with pytest.raises(InputError, match=r"x.npy: truncated"):
        PCA(2, engine=engine).fit(ends_early(open_rows(make("npy"), comm), 1))


@pytest.mark.mpi
@pytest.mark.parametrize("n_passes", [1, 2, 4])
@pytest.mark.parametrize("engine", ["assembled", "matrix_free", "block", "gram"])
def test_a_file_that_ends_early_leaves_no_objects_of_petsc(comm, make, engine, n_passes):
    """The vectors of the solver, alive on one rank alone, would make the program hang at exit."""
    if comm.size == 1:
        pytest.skip("on one rank the traceback has frames")
    if engine == "assembled" and n_passes > 1:
        pytest.skip("one pass over the rows")
    stream = ends_early(open_rows(make("npy"), comm), n_passes)
    assert releases_frames(lambda: PCA(2, engine=engine).fit(stream), InputError)


EXIT = """
import gc, sys
from mpi4py import MPI
from hpcembed import open_rows
from hpcembed.embedding import PCA
from hpcembed.runtime.errors import InputError

gc.disable()  # the time of a collection is accidental
stream = open_rows(sys.argv[1], MPI.COMM_WORLD)
read, counts = stream.blocks, []

def blocks(*arguments, **keywords):
    counts.append(1)
    if len(counts) == 2 and MPI.COMM_WORLD.rank == MPI.COMM_WORLD.size - 1:
        raise InputError("x.npy: truncated")
    yield from read(*arguments, **keywords)

stream.blocks = blocks
try:
    PCA(2, engine="matrix_free").fit(stream)
except InputError as error:
    print(error)
"""


@pytest.mark.launch
@pytest.mark.parametrize("ranks", [2, 3])
def test_a_program_ends_after_an_error_in_a_product(run_mpi, tmp_path, ranks):
    script = tmp_path / "program.py"
    script.write_text(EXIT)
    done = run_mpi(ranks, script, write(tmp_path, "npy"), timeout=60)
    assert done.status == 0, done.err
    assert done.out.count(f"[rank {ranks - 1}] x.npy: truncated") == ranks


def ends_early(stream, n_passes):
    """Make the reader of the last rank fail, on this rank alone, in pass number `n_passes`."""
    if stream.comm.rank == stream.comm.size - 1:
        array, passes = stream._arrays[0], []

        def fails(first, last):
            passes.append(1)
            if len(passes) == n_passes:
                raise InputError("x.npy: truncated")
            yield from array.blocks(first, last)

        object.__setattr__(
            stream, "_arrays", (_Failing(array.name, array.shape, array.dtype, fails),)
        )
    return stream


@dataclasses.dataclass
class _Failing:
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: object
