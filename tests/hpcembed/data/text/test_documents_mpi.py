"""Documents and vocabularies on several ranks: one order, one vocabulary, errors on all ranks."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import logging
import lzma
import os
import tarfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from hpcembed.data.text import vocabulary_learning
from hpcembed.data.text.documents import Documents
from hpcembed.data.text.reading import read_text
from hpcembed.data.text.tokens import TokenIds, index_tokens
from hpcembed.data.text.vocabulary_learning import learn_vocabulary
from hpcembed.runtime.errors import HpcembedError, InputError

pytestmark = pytest.mark.mpi

_WORDS = [
    "sea",
    "ship",
    "sail",
    "wind",
    "wave",
    "harbour",
    "rope",
    "deck",
    "night",
    "star",
    "engine",
    "Wheel",
    "road",
    "car",
    "brake",
    "gear",
    "fuel",
    "motor",
    "bridge",
    "naïve",
    "Ærø",
    "über",
    "шторм",
    "3d",
    "x_1",
    "don't",
]


def texts(n: int = 40) -> tuple[list[str], list[str]]:
    """Documents of some words, one of them empty, and the class of each."""
    generator = np.random.default_rng(5)
    found, labels = [], []
    for i in range(n):
        kind = ("sea", "road", "sky")[i % 3]
        weights = np.exp(-np.arange(len(_WORDS)) / 6.0)
        if kind == "road":
            weights = weights[::-1]
        chosen = generator.choice(_WORDS, generator.integers(1, 30), p=weights / weights.sum())
        found.append(" ".join(chosen) if i != 7 else "")
        labels.append(kind)
    return found, labels


def write_folder(root: Path, documents: list[str], labels: list[str]) -> list[int]:
    """Write a folder of documents; return the order in which they are read."""
    for i, (text, label) in enumerate(zip(documents, labels, strict=True)):
        folder = root / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:03d}.txt").write_text(text, encoding="utf-8")
    (root / labels[0] / ".hidden").write_text("not read")
    return sorted(range(len(labels)), key=lambda i: (labels[i], i))


def write_tar(path: Path, documents: list[str], labels: list[str], mode: str = "w:gz") -> None:
    """Write an archive of documents in this order, with folders, a link and unsafe names."""
    with tarfile.open(path, mode) as archive:
        for name, kind in (("top/sea", tarfile.DIRTYPE), ("top/sea/link", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        for i, (text, label) in enumerate(zip(documents, labels, strict=True)):
            folder = ("top", "/absolute", "../up")[i % 3]
            raw = text.encode("utf-8")
            member = tarfile.TarInfo(f"{folder}/{label}/{i}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
        archive.addfile(tarfile.TarInfo("top/sea/._7"))


def write_lines(path: Path, documents: list[str], labels: list[str], end: str = "\n") -> None:
    """Write a label, a blank or tab, and a text on each line; blank lines in between."""
    lines = [
        f"{y}{' ' if i % 2 else chr(9)}{x}{end}"
        for i, (x, y) in enumerate(zip(documents, labels, strict=True))
    ]
    lines.insert(3, f"  {end}")
    path.write_bytes("".join(lines).encode("utf-8"))


def write_csv(path: Path, documents: list[str], labels: list[str], end: str = "\n") -> None:
    """Write records with line breaks, quotes and separators inside the texts."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=end)
    writer.writerow(("id", "body", "kind"))
    for i, (text, label) in enumerate(zip(documents, labels, strict=True)):
        writer.writerow((i, with_breaks(text), label))
    path.write_bytes(stream.getvalue().encode("utf-8"))


def with_breaks(text: str) -> str:
    """Return the same words, separated by characters that need quoting."""
    return text.replace(" ", '\n"he, said"\r\n\n', 2).replace(" ", ',""', 1)


def whole(found: Documents) -> tuple[list[str], list[str]]:
    """Gather texts and labels of all ranks and check their global indices."""
    comm = found.comm
    shares = comm.allgather((found.start, list(found.texts)))
    everything = []
    for start, share in shares:
        assert start == len(everything)
        everything += share
    assert found.n_documents == len(everything)
    mine = [found.labels.values[code] for code in found.labels.codes]
    return everything, list(chain.from_iterable(comm.allgather(mine)))


def on_root(comm, work) -> None:
    if comm.rank == 0:
        work()
    comm.Barrier()


def test_folder_and_tar(comm, shared_tmp, caplog):
    found, labels = texts()
    root = shared_tmp / "folder"
    order = []
    on_root(comm, lambda: order.extend(write_folder(root, found, labels)))
    order = comm.bcast(order)
    with caplog.at_level(logging.WARNING, "hpcembed"):
        read = read_text(root, comm)
        assert whole(read) == ([found[i] for i in order], [labels[i] for i in order])
    assert ("1 of 40 documents are empty" in caplog.text) == (comm.rank == 0)
    assert set(whole(read_text([root], comm, labelled=False))[1]) == {""}
    assert not read_text(root, comm, labelled=False).labels.codes.any()
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz")):
        caplog.clear()
        path = shared_tmp / name
        on_root(comm, lambda path=path, mode=mode: write_tar(path, found, labels, mode))
        with caplog.at_level(logging.WARNING, "hpcembed"):
            assert whole(read_text(path, comm)) == (found, labels)
        assert ("1 links, devices or sparse members" in caplog.text) == (comm.rank == 0)
    twice = read_text([shared_tmp / "a.tar", shared_tmp / "a.tgz"], comm)
    assert whole(twice) == (found * 2, labels * 2)
    share = sum(len(text.encode()) + 1 for text in twice.texts)
    total = comm.allreduce(share)
    assert share <= total / comm.size + 300


def test_lines_and_csv(comm, shared_tmp):
    found, labels = texts()
    for end in ("\n", "\r\n"):
        path = shared_tmp / "lines"
        on_root(comm, lambda path=path, end=end: write_lines(path, found, labels, end))
        read = whole(read_text(path, comm))
        assert read[0] == found
        assert read[1] == labels
        plain = read_text(path, comm, labelled=False)
        assert whole(plain)[0][0].split()[:2] == [labels[0], *found[0].split()[:1]]
        path = shared_tmp / "records"
        on_root(comm, lambda path=path, end=end: write_csv(path, found, labels, end))
        options = {"text_column": "body", "label_column": "kind"}
        expected = [with_breaks(text) for text in found]
        assert whole(read_text([path, path], comm, **options)) == (expected * 2, labels * 2)
        packed = shared_tmp / "records.csv.gz"
        content = path.read_bytes()
        on_root(comm, lambda to=packed, raw=content: to.write_bytes(gzip.compress(raw)))
        assert whole(read_text(packed, comm, **options)) == (expected, labels)
        assert whole(read_text(path, comm, text_column="body", labelled=False))[0] == expected
    # One record that reaches over the shares of all ranks but the last.
    long = shared_tmp / "long"
    text = "word\n" * 400
    content = f'text,kind\n"{text}",a\nshort,b\n"tail\nend",a'
    on_root(comm, lambda: long.write_text(content))
    read = read_text(long, comm, text_column="text", label_column="kind")
    assert whole(read) == ([text, "short", "tail\nend"], ["a", "b", "a"])


def test_cleaning_reaches_all(comm, shared_tmp, caplog):
    root = shared_tmp / "mail"

    def write():
        for i in range(5):
            (root / f"g{i % 2}").mkdir(parents=True, exist_ok=True)
            head = f"Subject: {i}\n\n".encode()
            (root / f"g{i % 2}" / str(i)).write_bytes(head + b"na\xefve\n> quoted\n")

    on_root(comm, write)
    with caplog.at_level(logging.WARNING, "hpcembed"):
        read = read_text(root, comm, headers="remove", quoting="remove")
    assert {text.strip() for text in whole(read)[0]} == {"na\ufffdve"}
    assert ("5 byte sequences in 5 documents are not valid utf-8" in caplog.text) == (
        comm.rank == 0
    )
    read = read_text(root, comm, encoding="latin-1")
    assert whole(read)[0][0] == "Subject: 0\n\nnaïve\n> quoted\n"


def refused(comm, words: str, *arguments, **options) -> None:
    with pytest.raises(HpcembedError) as caught:
        read_text(*arguments, comm, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words.split():
        assert word in message, message
    assert len(set(comm.allgather(message))) == 1


def test_refusals(comm, shared_tmp):
    root = shared_tmp
    quotes = b'text,kind\n"fine ""one""",a\n5" disk,b\n"third",a\n' + b"more,b\n" * 50

    def write():
        (root / "empty").mkdir()
        (root / "flat").mkdir()
        (root / "flat" / "a.txt").write_text("in no class")
        (root / "zero").write_bytes(b"")
        (root / "blank").write_bytes(b"\n \n")
        (root / "text").write_bytes(b"no archive " * 200)
        (root / "latin").write_bytes(b"a fine\nb na\xefve\n")
        (root / "nan").write_bytes(b"a fine\nnan what\n")
        write_tar(root / "good.tar.gz", *texts())
        raw = gzip.decompress((root / "good.tar.gz").read_bytes())
        (root / "cut.tar").write_bytes(raw[: 700 * 8])
        (root / "cut.tar.gz").write_bytes((root / "good.tar.gz").read_bytes()[:900])
        (root / "noise.tar").write_bytes(raw[:5120] + b"\x07" * 5120)
        with tarfile.open(root / "none.tar", "w") as archive:
            archive.add(root / "empty", "empty")
        with tarfile.open(root / "flat.tar", "w") as archive:
            archive.add(root / "zero", "zero")
        (root / "quotes.csv").write_bytes(quotes)
        (root / "inches.csv").write_bytes(b'text,kind\nx,a\n5" disk,b\n3" tape,a\n' * 40)
        (root / "open.csv").write_bytes(b'text,kind\nx,a\n"never closed,b\n' + b"more,b\n" * 50)
        (root / "old").write_bytes(b"a fine\rb film\rb story\r")
        (root / "one").write_bytes(b"a only one\r")
        (root / "quote.csv").write_bytes(b'text,kind\nx,a\n5" disk,b\nthird,a\n3" tape,b\n')
        for opener, name in ((bz2.open, "bz2"), (lzma.open, "xz")):
            with opener(root / f"good.tar.{name}", "wb") as stream:
                stream.write(raw)
        for name, folder in (("foreign", os.fsdecode(b"caf\xe9")), ("stays", "caf\xe9")):
            (root / name / folder).mkdir(parents=True)
            (root / name / folder / "x.txt").write_text("a story")
            with tarfile.open(root / f"{name}.tar", "w") as archive:
                archive.add(root / name / folder / "x.txt", f"top/{folder}/x.txt")
        (root / "odd.csv").write_bytes(b"text,kind\nx,a\n" + b"one, two,b\n" * 50)

    on_root(comm, write)
    refused(comm, "zero file is empty", root / "zero")
    refused(comm, "no documents empty", root / "empty")
    refused(comm, "no documents none.tar", root / "none.tar")
    refused(comm, "a.txt no folder class", root / "flat")
    refused(comm, "flat.tar: zero: no folder class", root / "flat.tar")
    refused(comm, "blank no documents", root / "blank")
    with pytest.raises(InputError, match=r"absent: no such folder$"):
        read_text(root / "absent", comm, format="text_folder")
    refused(comm, "text a file, not a folder", root / "text", format="text_folder")
    refused(comm, "text not a whole tar archive", root / "text", format="text_tar")
    refused(comm, "not a whole tar archive", root / "cut.tar")
    refused(comm, "not a whole tar archive", root / "noise.tar")
    refused(comm, "truncated", root / "cut.tar.gz")
    refused(comm, "latin: line 2: byte 5 utf-8", root / "latin", encoding_errors="refuse")
    refused(comm, "nan: line 2: not a finite number", root / "nan")
    refused(comm, "data.encoding utf-9", root / "latin", encoding="utf-9")
    refused(comm, "encoding_errors ignore", root / "latin", encoding_errors="ignore")
    refused(comm, "text_rows", root / "latin", format="text_rows")
    refused(comm, "no paths", [])
    refused(comm, "old: carriage returns alone: convert", root / "old")
    assert whole(read_text(root / "one", comm)) == (["only one"], ["a"])
    for name, tool in (("bz2", "bzip2:"), ("xz", "xz:")):
        for kind in ("auto", "text_tar"):
            words = f"good.tar.{name}: compressed with {tool} gzip"
            refused(comm, words, root / f"good.tar.{name}", format=kind)
    for path, is_tar in ((root / "foreign", False), (root / "foreign.tar", True)):
        refused(comm, r"caf\udce9 x.txt: its folder not UTF-8 rename", path)
        found = whole(read_text(path, comm, labelled=False))
        assert found == (["a story"], [""])
        assert whole(read_text(root / f"stays{'.tar' * is_tar}", comm))[1] == ["caf\xe9"]
    csv_of = {"text_column": "text", "label_column": "kind"}
    refused(
        comm, "quote.csv: line 3: a quote inside a text not in quotes", root / "quote.csv", **csv_of
    )
    refused(comm, "quotes.csv: line 3: a quote is not closed", root / "quotes.csv", **csv_of)
    refused(comm, "inches.csv: line 3: quotes broken double", root / "inches.csv", **csv_of)
    refused(comm, "open.csv: line 3: a quote is not closed", root / "open.csv", **csv_of)
    refused(comm, "odd.csv: line 3: 3 fields header has 2", root / "odd.csv", **csv_of)
    refused(comm, "no column 'sort'", root / "quotes.csv", text_column="text", label_column="sort")
    refused(comm, "no column 'body'", root / "quotes.csv", text_column="body", label_column="kind")
    refused(comm, "both", root / "quotes.csv", text_column="kind", label_column="kind")
    refused(comm, "data.label_column", root / "quotes.csv", text_column="text")
    refused(comm, "data.text_column", root / "quotes.csv", format="text_csv", label_column="kind")


def share(found: list[str], comm) -> list[str]:
    """Return an uneven share; with three ranks, the last one is empty."""
    bounds = [0, 31, len(found), len(found)] if comm.size > 1 else [0, len(found)]
    return found[bounds[comm.rank] : bounds[comm.rank + 1]]


LIMITS = [{}, {"min_df": 3}, {"min_df": 0.2, "max_df": 0.5}, {"min_df": 2, "max_df": 20}]


@pytest.mark.parametrize("limits", LIMITS)
def test_vocabulary_equals_that_of_sklearn(comm, limits, monkeypatch):
    monkeypatch.setattr(vocabulary_learning, "_TOKENS_AT_A_TIME", 7)
    found, _ = texts()
    peer = CountVectorizer(**limits)
    counts = peer.fit_transform(found).toarray()
    vocabulary = learn_vocabulary(index_tokens(share(found, comm)), comm, **limits)
    assert vocabulary.terms == tuple(peer.get_feature_names_out())
    np.testing.assert_array_equal(vocabulary.term_frequencies, counts.sum(axis=0))
    np.testing.assert_array_equal(vocabulary.document_frequencies, (counts > 0).sum(axis=0))
    assert vocabulary.n_documents == len(found)


def test_most_frequent_terms(comm):
    found, _ = texts()
    everything = learn_vocabulary(index_tokens(share(found, comm)), comm)
    ranked = sorted(zip(-everything.term_frequencies, everything.terms, strict=True))
    for n in (1, 5, 12, 1000):
        kept = learn_vocabulary(index_tokens(share(found, comm)), comm, max_features=n)
        assert kept.terms == tuple(sorted(term for _, term in ranked[:n]))
    tied = share(["dd cc", "bb aa", "cc"], comm) if comm.size == 1 else []
    if comm.rank == comm.size - 1:
        tied = ["dd cc", "bb aa", "cc"]
    assert learn_vocabulary(index_tokens(tied), comm, max_features=2).terms == ("aa", "cc")


def test_empty_vocabularies_are_refused(comm):
    with pytest.raises(InputError, match="not one word"):
        learn_vocabulary(index_tokens(["a b c"]), comm, source="x")
    with pytest.raises(InputError, match=r"x: none of 2 words is in at least 9"):
        learn_vocabulary(index_tokens(["aa bb"]), comm, min_df=9, source="x")


def test_invalid_words_are_refused(comm):
    """The word is on the last rank, in its second document."""
    for word, reason in (("a\nb", "contains a line break"), ("\udce9", "as UTF-8")):
        tokens = (word, "aa") if comm.rank == comm.size - 1 else ("aa", "bb")
        indexed = TokenIds(tokens, np.array([1, 1, 0], np.int32), np.array([0, 0, 2, 3]))
        with pytest.raises(InputError, match=f"x: document [12]: .*{reason}") as caught:
            learn_vocabulary(indexed, comm, source="x")
        assert f"document 2: the word {word!a}" in str(caught.value)
        assert len(set(comm.allgather(str(caught.value)))) == 1


def test_fewer_documents_than_ranks(comm, shared_tmp: Path):
    path = shared_tmp / "one"
    on_root(comm, lambda: path.write_bytes(b"a only one"))
    assert whole(read_text(path, comm)) == (["only one"], ["a"])
