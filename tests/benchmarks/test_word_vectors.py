"""Script on word vectors: a table from a small archive, and no time for a wrong answer."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "word_vectors.py"
WORDS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"]


def documents():
    rng = np.random.default_rng(0)
    return [list(rng.choice(WORDS, 12, p=np.arange(1, 9) / 36)) for _ in range(40)]


@pytest.fixture
def small(tmp_path):
    """Data folder with 40 documents, and lists of pairs with one unknown word."""
    folder = tmp_path / "text" / "word_similarity"
    folder.mkdir(parents=True)
    with tarfile.open(tmp_path / "text" / "20_newsgroups.tar.gz", "w:gz") as archive:
        for i, words in enumerate(documents()):
            content = ("Subject: none\n\n" + " ".join(words)).encode()
            entry = tarfile.TarInfo(f"news/group{i % 2}/{i}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    pairs = "Ant\tbee\t1\ncat\tdog\t2\nelk\tfox\t3\ngnu\then\t2.5\nant\tzebu\t9\n"
    for name in ("EN-WS-353-ALL.txt", "EN-MEN-TR-3k.txt", "EN-SIMLEX-999.txt"):
        (folder / name).write_text(pairs)
    return tmp_path


@pytest.mark.launch
def test_a_table_and_a_record(run_mpi, small):
    words = ["--data-dir", str(small), "--k", "2", "3", "--min-df", "1", "--out", str(small / "o")]
    done = run_mpi(0, str(SCRIPT), *words, timeout=120)
    assert done.status == 0, done.err
    assert "| WordSim-353 (4 of 5) | MEN (4 of 5) | SimLex-999 (4 of 5) |" in done.out
    assert (small / "o" / "word_vectors.md").read_text() == done.out
    record = json.loads((small / "o" / "word_vectors.json").read_text())
    assert record["coverage"]["MEN"] == [4, 5]
    assert [(row["k"], row["method"]) for row in record["rows"]] == [
        (k, method) for k in (2, 3) for method in ("hpcembed", "scipy eigsh", "scipy svds")
    ]
    for row in record["rows"]:
        assert row["right"]
        assert row["seconds"] > 0
        assert row["residual"] <= 1e-5
    ours, theirs = record["rows"][0]["spearman"], record["rows"][1]["spearman"]
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.launch
def test_counting_alone(run_mpi, small):
    words = ["--data-dir", str(small), "--counting", "--min-df", "1", "--repeats", "2"]
    records = []
    for ranks in (0, 2):
        done = run_mpi(ranks, str(SCRIPT), *words, timeout=120)
        assert done.status == 0, done.err
        lines = [line for line in done.out.splitlines() if line.startswith("{")]
        records.append(json.loads(lines[-1]))
    assert [record["ranks"] for record in records] == [1, 2]
    assert all(record["right"] and record["seconds"] > 0 for record in records)
    # 40 documents of 12 words: 11 + 10 + 9 + 8 + 7 pairs, counted from both sides
    assert [record["total"] for record in records] == [40 * 2 * 45] * 2
    assert records[0]["entries"] == records[1]["entries"]


def test_a_wrong_answer_has_no_time(monkeypatch):
    from mpi4py import MPI

    from hpcembed.data.text.vocabulary import Vocabulary
    from hpcembed.operators.cooccurrence.windows import TokenDocuments

    spec = importlib.util.spec_from_file_location("word_vectors_script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)  # dataclasses read it
    spec.loader.exec_module(script)
    right = script.eigsh
    arguments = argparse.Namespace(
        window=2, weighting="none", shift=1.0, smoothing=0.75, power=0.5, peers=["eigsh", "svds"]
    )
    numbers = [np.array([WORDS.index(word) for word in words]) for words in documents()]
    given = TokenDocuments.packed(numbers), Vocabulary(WORDS, [1] * 8, [1] * 8, 40), 3
    monkeypatch.setattr(script, "eigsh", lambda M, k: right(M + 0.1 * abs(M).max() * M, k))
    monkeypatch.setattr(script, "svds", lambda M, k: tuple(a[..., :-1] for a in right(M, k + 1)))
    ours, scaled, other = script.compared(*given, {}, arguments, MPI.COMM_SELF)
    assert ours.right
    assert ours.seconds is not None
    assert not scaled.right  # eigenvectors of M with eigenvalues of a multiple
    assert scaled.seconds is None
    assert other.residual < 1e-12  # eigenpairs, but the dominant one is missing
    assert not other.right
    assert other.seconds is None
