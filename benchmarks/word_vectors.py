"""Word vectors of 20 Newsgroups: correlation with human similarities; time compared with SciPy.

    python benchmarks/word_vectors.py --data-dir DATA [--k 100 300] [--out FOLDER]
    mpiexec -n 2 python benchmarks/word_vectors.py --data-dir DATA --counting

DATA holds text/20_newsgroups.tar.gz and text/word_similarity/*.txt. The first form fits
`hpcembed.WordVectors` for every k and computes the same eigenvectors with SciPy's eigsh and svds
from the same positive pointwise mutual information. For each list of word pairs it computes
Spearman's correlation of the cosines of their vectors with the human scores, over the pairs whose
words are both in the vocabulary. It prints Markdown and, with --out, writes word_vectors.md and
word_vectors.json. SciPy runs on one rank only.

The second form times the counting of pairs on the ranks of the job.

An answer with wrong residuals or eigenvalues is marked as wrong and has no time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse.linalg
import scipy.stats
from mpi4py import MPI

from hpcembed import WordVectors
from hpcembed.data.text.reading import read_text
from hpcembed.data.text.tokens import index_tokens
from hpcembed.data.text.vocabulary_learning import learn_vocabulary
from hpcembed.operators.cooccurrence.mutual_information import positive_information
from hpcembed.operators.cooccurrence.windows import TokenDocuments, Window
from hpcembed.operators.cooccurrence.word_cooccurrence import cooccurrence
from miramns.bench.harness.tables import markdown_table

#: Largest true residual of a right answer, and largest difference of its eigenvalues from those of
#: the first method, both relative to the largest eigenvalue.
RIGHT = 1e-5
TOLERANCE = 1e-6
LISTS = {
    "WordSim-353": "EN-WS-353-ALL.txt",
    "MEN": "EN-MEN-TR-3k.txt",
    "SimLex-999": "EN-SIMLEX-999.txt",
}


@dataclass
class Row:
    """One method at one k."""

    k: int
    method: str
    seconds: float | None
    residual: float
    right: bool
    spearman: dict[str, float] = field(default_factory=dict)


def main() -> int:
    arguments = parsed()
    comm = MPI.COMM_WORLD
    documents, vocabulary = corpus(arguments, comm)
    if arguments.counting:
        return count_only(documents, len(vocabulary), arguments, comm)
    pairs = {name: read_pairs(arguments.data_dir, file) for name, file in LISTS.items()}
    rows: list[Row] = []
    for k in arguments.k:
        rows += compared(documents, vocabulary, k, pairs, arguments, comm)
    if comm.rank == 0:
        report(rows, pairs, vocabulary, arguments, comm.size)
    return 0 if all(row.right for row in rows) else 1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data-dir", type=Path, required=True)
    add("--archive", default="text/20_newsgroups.tar.gz", help="documents, below --data-dir")
    add("--k", type=int, nargs="+", default=[100, 300])
    add("--window", type=int, default=5)
    add("--weighting", default="none", choices=["none", "harmonic", "linear"])
    add("--shift", type=float, default=1.0)
    add("--smoothing", type=float, default=0.75)
    add("--power", type=float, default=0.5)
    add("--min-df", type=int, default=5, help="smallest number of documents with a word")
    add("--peers", nargs="*", default=["eigsh", "svds"], choices=["eigsh", "svds"])
    add("--counting", action="store_true", help="time counting alone")
    add("--repeats", type=int, default=3, help="repeats of counting, of which the fastest counts")
    add("--out", type=Path, help="folder for word_vectors.md and .json")
    return parser.parse_args()


def corpus(arguments: argparse.Namespace, comm: MPI.Intracomm) -> tuple[TokenDocuments, Any]:
    """Return this rank's documents as term numbers, and the vocabulary."""
    read = read_text(
        arguments.data_dir / arguments.archive, comm, headers="remove", encoding="latin-1"
    )
    indexed = index_tokens(read.texts)
    vocabulary = learn_vocabulary(indexed, comm, min_df=arguments.min_df)
    tokens = vocabulary.term_ids(indexed).astype(np.int32)
    return TokenDocuments(tokens, indexed.starts), vocabulary


# ------------------------------------------------------------------------------------- counting


def count_only(
    documents: TokenDocuments, n_terms: int, arguments: argparse.Namespace, comm: MPI.Intracomm
) -> int:
    window = Window(arguments.window, arguments.weighting)
    taken, busy = [], []
    for _ in range(arguments.repeats):
        comm.Barrier()
        began, worked = time.perf_counter(), time.process_time()
        counts = cooccurrence(documents, n_terms, comm, window=window)
        busy.append(comm.allreduce(time.process_time() - worked, op=MPI.MAX))
        taken.append(time.perf_counter() - began)
    expected = comm.allreduce(pair_weight(documents, window))
    found = comm.allreduce(float(counts.rows.data.sum()))
    right = bool(abs(found - 2 * expected) <= 1e-9 * found)
    entries = counts.n_nonzeros
    if comm.rank == 0:
        record = {
            "ranks": comm.size,
            "seconds": min(taken) if right else None,
            "all_seconds": taken,
            # of the slowest rank, including the time in which it waits for messages
            "processor_seconds": min(busy),
            "terms": n_terms,
            "entries": entries,
            "total": found,
            "right": right,
        }
        print(json.dumps(record))
    return 0 if right else 1


def pair_weight(documents: TokenDocuments, window: Window) -> float:
    """Return the weight of all pairs of this rank, computed by a mask for each distance."""
    weights, denominator = window.weights()
    tokens = documents.tokens
    place = np.repeat(np.arange(documents.n_documents), np.diff(documents.offsets))
    known = tokens >= 0
    total = 0.0
    for s, weight in enumerate(weights, start=1):
        both = known[:-s] & known[s:] & (place[:-s] == place[s:])
        total += weight * np.count_nonzero(both)
    return total / denominator


# ------------------------------------------------------------------------------------- vectors


def compared(
    documents: TokenDocuments,
    vocabulary: Any,
    k: int,
    pairs: dict[str, Any],
    arguments: argparse.Namespace,
    comm: MPI.Intracomm,
) -> list[Row]:
    """Return the rows of hpcembed and, on one rank, of SciPy with the same matrix."""
    settings = {"shift": arguments.shift, "smoothing": arguments.smoothing}
    ours = WordVectors(
        k,
        window=arguments.window,
        weighting=arguments.weighting,
        power=arguments.power,
        tol=TOLERANCE,
        **settings,
    ).fit(documents, vocabulary=vocabulary, comm=comm)
    residual = float(np.max(ours.residual_norms_) / abs(ours.eigenvalues_[0]))
    seconds = ours.seconds_["solve"]
    row = reported(k, "hpcembed", seconds, residual, residual <= RIGHT)
    row.spearman = correlations(ours.vectors_, vocabulary, pairs)
    rows = [row]
    if comm.size > 1:
        return rows
    window = Window(arguments.window, arguments.weighting)
    counts = cooccurrence(documents, len(vocabulary), comm, window=window)
    M = positive_information(counts, **settings).rows
    solvers: dict[str, Callable[[Any, int], tuple[Any, Any]]] = {"eigsh": eigsh, "svds": svds}
    for name in arguments.peers:
        began = time.perf_counter()
        values, vectors = solvers[name](M, k)
        seconds = time.perf_counter() - began
        residuals = np.linalg.norm(M @ vectors - vectors * values, axis=0)
        residual = float(residuals.max() / np.abs(values).max())
        gap = np.max(np.abs(np.sort(np.abs(values))[::-1] - np.abs(ours.eigenvalues_)))
        right = residual <= RIGHT and gap <= RIGHT * np.abs(values).max()
        row = reported(k, f"scipy {name}", seconds, residual, bool(right))
        scaled = vectors * np.abs(values) ** arguments.power
        row.spearman = correlations(scaled, vocabulary, pairs)
        rows.append(row)
    return rows


def reported(k: int, method: str, seconds: float, residual: float, right: bool) -> Row:
    verdict = f"{seconds:.1f} s" if right else "wrong"
    print(f"k = {k}, {method}: {verdict}, residual {residual:.1e}", file=sys.stderr, flush=True)
    return Row(k, method, seconds if right else None, residual, right)


def eigsh(M: Any, k: int) -> tuple[Any, Any]:
    return scipy.sparse.linalg.eigsh(M, k, which="LM", tol=TOLERANCE, v0=start(M))


def svds(M: Any, k: int) -> tuple[Any, Any]:
    """Return eigenpairs from left singular vectors, with the signs of the Rayleigh quotients."""
    # its tolerance applies to M'M
    U, _, _ = scipy.sparse.linalg.svds(M, k, tol=TOLERANCE, v0=start(M))
    return np.einsum("ij,ij->j", U, M @ U), U


def start(M: Any) -> Any:
    return np.random.default_rng(0).standard_normal(M.shape[0])


# -------------------------------------------------------------------------------- similarities


def read_pairs(data_dir: Path, file: str) -> list[tuple[str, str, float]]:
    lines = (data_dir / "text" / "word_similarity" / file).read_text(encoding="utf-8").splitlines()
    fields = [line.split() for line in lines if line.strip()]
    return [(a.lower(), b.lower(), float(score)) for a, b, score in fields]


def correlations(vectors: Any, vocabulary: Any, pairs: dict[str, Any]) -> dict[str, float]:
    """Return Spearman's correlation for every list, over the pairs in the vocabulary."""
    lengths = np.linalg.norm(vectors, axis=1)
    unit = vectors / np.where(lengths > 0, lengths, 1.0)[:, None]
    found = {}
    for name, listed in pairs.items():
        a, b, scores = covered(vocabulary, listed)
        cosines = np.einsum("ij,ij->i", unit[a], unit[b])
        enough = len(scores) > 2
        found[name] = float(scipy.stats.spearmanr(cosines, scores)[0]) if enough else float("nan")
    return found


def covered(vocabulary: Any, listed: Any) -> tuple[Any, Any, Any]:
    a = vocabulary.ids(pair[0] for pair in listed)
    b = vocabulary.ids(pair[1] for pair in listed)
    both = (a >= 0) & (b >= 0)
    return a[both], b[both], np.array([pair[2] for pair in listed])[both]


# -------------------------------------------------------------------------------------- report


def report(
    rows: list[Row],
    pairs: dict[str, Any],
    vocabulary: Any,
    arguments: argparse.Namespace,
    ranks: int,
) -> None:
    coverage = {
        name: [len(covered(vocabulary, listed)[2]), len(listed)] for name, listed in pairs.items()
    }
    heads = [f"{name} ({found} of {all_})" for name, (found, all_) in coverage.items()]
    title = (
        f"{vocabulary!r}, window {arguments.window} ({arguments.weighting}), shift "
        f"{arguments.shift:g}, smoothing {arguments.smoothing:g}, power {arguments.power:g}, "
        f"{ranks} rank(s)"
    )
    cells = [
        (
            row.k, row.method, "wrong" if row.seconds is None else f"{row.seconds:.1f}",
            f"{row.residual:.1e}", *(f"{value:.3f}" for value in row.spearman.values()),
        )
        for row in rows
    ]  # fmt: skip
    headings = ["k", "method", "solve, s", "largest residual", *heads]
    text = "\n".join([title, "", *markdown_table(headings, cells), ""])
    sys.stdout.write(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "word_vectors.md").write_text(text, encoding="utf-8")
        record = {
            "settings": {key: str(value) for key, value in vars(arguments).items()},
            "ranks": ranks,
            "terms": len(vocabulary),
            "documents": vocabulary.n_documents,
            "coverage": coverage,
            "rows": [asdict(row) for row in rows],
        }
        (arguments.out / "word_vectors.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
