"""Files that expand without end, lead elsewhere, or were never written completely."""

import gzip
import os
import tarfile
import time
import tracemalloc

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from hpcembed.data import file_validation
from hpcembed.data.arrays.hdf5 import open_hdf5
from hpcembed.data.arrays.hdf5_rows import hdf5_row_names, open_hdf5_rows
from hpcembed.data.file_validation import check_line_ends, named_errors, open_stream
from hpcembed.data.text.cleaning import Cleaner, TextRules
from hpcembed.data.text.folders_and_archives import FolderDocuments, TarDocuments
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.settings import read_table


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(file_validation, "_FREE_EXPANSION", 2**20)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"0" * 2**26))
    assert path.stat().st_size * 500 < 2**26
    return path


READS = {
    "blocks": lambda stream: iter(lambda: stream.read(2**16), b""),
    "all": lambda stream: [stream.read()],
    "lines": lambda stream: stream,
    "seek": lambda stream: [stream.seek(2**26 - 1)],
}


@pytest.mark.parametrize("read", READS)
def test_gzipped_file_that_expands_without_end(bomb, read):
    refused = r"bomb.csv.gz: expands to more than .* unpack it first"
    with (
        pytest.raises(InputError, match=refused),
        named_errors(bomb),
        open_stream(bomb) as stream,
    ):
        for _ in READS[read](stream):
            pass


def test_readers_refuse_it(bomb):
    with pytest.raises(InputError, match="expands to more than"):
        check_line_ends(bomb)
    with pytest.raises(InputError, match=r"expands to more than|not a whole tar archive"):
        TarDocuments((bomb,), labelled=False).files()


def test_gzipped_tables_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(file_validation, "_FREE_EXPANSION", 2**10)
    content = b"0,1,0,0,3\n" * 1000 + np.random.default_rng(0).bytes(2000)
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    with open_stream(tmp_path / "a.gz") as stream:
        assert stream.read() == content
        stream.seek(0)
        assert stream.read(7) == content[:7]


@pytest.fixture
def files(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["rows"] = np.ones((4, 3))
    with h5py.File(tmp_path / "main.h5", "w") as file:
        file["rows"] = np.ones((4, 3))
        file["outside"] = h5py.ExternalLink("other.h5", "/rows")
        file["group/outside"] = h5py.ExternalLink("other.h5", "/")
        file["soft"] = h5py.SoftLink("/rows")
        file["group/up"] = h5py.SoftLink("/soft")
        file["hidden"] = h5py.SoftLink("/outside")
        file["folder"] = h5py.SoftLink("group")
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
    return tmp_path / "main.h5"


@pytest.mark.parametrize("key", ["rows", "soft", "group/up", "folder/up", "/rows"])
def test_links_inside_a_file_are_followed(files, key):
    assert open_hdf5(files, key).shape == (4, 3)


@pytest.mark.parametrize("key", ["outside", "group/outside/rows", "hidden", "folder/outside/rows"])
def test_links_to_other_files_are_refused(files, key):
    with pytest.raises(InputError, match=r"is a link to the file other.h5: name that file"):
        open_hdf5(files, key)


def test_links_in_a_circle_are_refused(files):
    with pytest.raises(InputError, match="in a circle"):
        open_hdf5(files, "a")


def test_chunks_that_were_never_written_are_refused(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        rows = file.create_dataset("rows", (100, 6), "f8", chunks=(10, 6), maxshape=(None, 6))
        rows[:73] = 1.0
    with pytest.raises(InputError, match="rows: 2 of its 10 chunks were never written"):
        open_hdf5(path, "rows")
    with h5py.File(path, "a") as file:
        file["rows"][73:] = 2.0
        file.create_dataset("none", (0, 6), "f8", chunks=(10, 6), maxshape=(None, 6))
    assert open_hdf5(path, "rows").shape == (100, 6)
    assert open_hdf5(path, "none").shape == (0, 6)


def test_links_of_a_folder_of_texts(tmp_path):
    root, outside = tmp_path / "texts", tmp_path / "secret.txt"
    (root / "a").mkdir(parents=True)
    (root / "a" / "one.txt").write_text("one")
    outside.write_text("secret")
    (root / "a" / "inside.txt").symlink_to("one.txt")
    (root / "a" / "out.txt").symlink_to(outside)
    (root / "a" / "up.txt").symlink_to("../../secret.txt")
    (root / "a" / "circle.txt").symlink_to("circle.txt")
    (root / "a" / "gone.txt").symlink_to("gone-away.txt")
    (root / "a" / "loop").symlink_to(root)
    found, n_skipped = FolderDocuments((root,), labelled=True).files()
    assert [os.path.basename(file.name) for file in found] == ["inside.txt", "one.txt"]
    assert n_skipped == 5
    # A folder that is itself reached by a link is read.
    (tmp_path / "link").symlink_to(root)
    assert len(FolderDocuments((tmp_path / "link",), labelled=True).files()[0]) == 2


@pytest.mark.mpi
def test_a_folder_of_links_only_is_an_error_that_names_them(comm, shared_tmp):
    if comm.rank == 0:
        (shared_tmp / "texts" / "a").mkdir(parents=True)
        (shared_tmp / "texts" / "a" / "x.txt").symlink_to("/etc/hostname")
    comm.barrier()
    documents = FolderDocuments((shared_tmp / "texts",), labelled=True)
    with pytest.raises(InputError, match="no documents in it, only 1 links"):
        documents.share(comm)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("x = " + "{a=" * 5000 + "1" + "}" * 5000, "nested too deeply"),
        ("# long\n" * 200_000, "larger than 1 MiB"),
        ("a" + ".a" * 20_000 + " = 1", "line 1 has a key of too many parts"),
        ("x = 1\n[a" + ' . "a"' * 20_000 + "]", "line 2 has a key of too many parts"),
    ],
    ids=["lists", "tables", "size", "dotted", "quoted"],
)
def test_huge_and_deep_job_files(tmp_path, content, words):
    path = tmp_path / "job.toml"
    path.write_text(content)
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=words):
        read_table(path)
    assert time.perf_counter() - start < 10


def test_many_file_names_are_not_a_key(tmp_path):
    names = [f"part.{i}.of.1000.csv" for i in range(1000)]
    (tmp_path / "job.toml").write_text(f"x = {names}\ny = '{'a.b ' * 100}'\n")
    assert read_table(tmp_path / "job.toml")["x"] == names


def test_job_file_that_is_a_device_or_a_folder(tmp_path):
    for path in ("/dev/zero", tmp_path):
        with pytest.raises(ConfigError, match="is not a regular file"):
            read_table(type(tmp_path)(path))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_long_read_allocates_what_there_is(tmp_path, pack):
    """A header may ask for any number of bytes."""
    (tmp_path / "a").write_bytes(pack(b"x" * 2**20))
    tracemalloc.start()
    with open_stream(tmp_path / "a") as stream:
        assert stream.read(2**40) == b"x" * 2**20
        assert stream.read(2**40) == b""
        stream.seek(0)
        assert stream.read(3) == b"xxx"
        assert len(stream.read()) == 2**20 - 3
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


@pytest.mark.parametrize("size", [10**9, 2**40, 2**63 - 1, 2**80], ids=str)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_members_of_archives_that_declare_any_size(tmp_path, size, kind):
    member = tarfile.TarInfo("t/a/x.txt")
    member.type, member.size = kind, size
    head = member.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(head + b"sea ship" + bytes(504) + bytes(1024))
    tracemalloc.start()
    documents = TarDocuments((tmp_path / "a.tar",), labelled=True)
    with pytest.raises(InputError, match=r"a\.tar"):
        documents.share(MPI.COMM_SELF)
        documents.read(Cleaner(TextRules()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


def test_names_of_features_that_are_a_table_are_left_out(tmp_path):
    path = tmp_path / "a.h5ad"
    with h5py.File(path, "w") as file:
        file["X"] = np.ones((4, 3))
        file.create_dataset("var/_index", (3, 0), "f8")
    assert open_hdf5_rows(path, "X").feature_names == ()


@pytest.mark.parametrize("read", [open_hdf5, open_hdf5_rows, lambda path, _: hdf5_row_names(path)])
def test_heaps_that_hdf5_reads_without_end(tmp_path, read):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["y"] = ["a text", "another"]
    assert open_hdf5(path, "y").shape == (2,)
    content = bytearray(path.read_bytes())
    place = content.index(b"GCOL") + 16
    while content[place] != 0:  # the free space at the end
        place += 16 + (content[place + 8] + 7) // 8 * 8
    content[place + 8 : place + 16] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.h5: .* a heap of texts is damaged at byte"):
        read(path, "y")
